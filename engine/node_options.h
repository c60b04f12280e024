// node_options: the options of a node of a name (CLI.md 1.4) that say how it is opened and not what
// it is: those of every node, and the tuning of a driver. Each is taken from the list and its value
// checked, also where it has no meaning here.
//
// Pure functions, any thread. "Parameter 'x' expects 'on' or 'off'", "Invalid discard option" ...
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/json_name.h"
#include "loop/result.h"
#include "loop/storage.h"

namespace imgconv {

/// cache.direct and cache.no-flush of a node, which go before the cache mode of -t or -T.
struct CacheOverride {
  std::optional<bool> direct;
  std::optional<bool> no_flush;

  CacheMode applied_to(CacheMode mode) const;
};

/// What every node has.
struct NodeFacts {
  CacheOverride cache;
  bool is_read_only = false;
  /// read-only=off in so many words.
  bool is_writable = false;
  bool force_share = false;
};

/// Removes the option. Null is as good as not given; nothing is returned then.
std::optional<std::string> take_text(NameOptions& options, std::string_view key);

Result<NodeFacts> take_node_facts(NameOptions& options);

/// Removes what tunes a file's driver, that of nothing (`null-co`), and what tunes an image's of
/// `format`.
Result<void> take_file_tuning(NameOptions& options);
Result<void> take_null_tuning(NameOptions& options);
Result<void> take_format_tuning(NameOptions& options, std::string_view format);

}  // namespace imgconv
