// json_name: the options inside a json:{...} image name or an --image-opts string, as one flat list
// of dotted keys: {"file": {"filename": "x"}} and file.filename=x are the same.
//
// Syntax only; what the keys mean is image_name's business. Names may come from a hostile image's
// backing field. Pure functions, any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loop/result.h"

namespace imgconv {

struct NameValue {
  /// Nothing stands for JSON's null; booleans are "on" and "off".
  std::optional<std::string> text;
  /// Written without quotes, as it will be shown again.
  bool is_number = false;

  bool operator==(const NameValue&) const = default;
};

/// What is deprecated in a name. To be told before anything is opened, also if the name is refused.
using NameWarnings = std::vector<std::string>;

/// By dotted key.
using NameOptions = std::map<std::string, NameValue, std::less<>>;

/// The text behind "json:". Strings may stand in single quotes, as the original allows.
Result<NameOptions> parse_json_options(std::string_view text);

/// "driver=qcow2,file.filename=a,,b": ",," is a comma; a first piece without "=" is the value of
/// `file`, a later one means on, or off when it begins with "no", which `warnings` says is
/// deprecated.
NameOptions parse_image_opts(std::string_view text, NameWarnings& warnings);

}  // namespace imgconv
