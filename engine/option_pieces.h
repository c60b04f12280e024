// Cuts "a=1,b=two,,three,c" into pieces without knowing which options there are, for callers that
// look for one name or leave one out. Typed parsing is formats/options.h. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imgconv {

struct OptionPiece {
  std::string name;
  /// With ",," undone; "on" for a bare name.
  std::string value;
  /// As it stands in the text.
  std::string_view text;
};

/// The pieces in order; `text` must outlive their views.
std::vector<OptionPiece> split_option_pieces(std::string_view text);

/// The text without the pieces of this name.
std::string without_option(std::string_view text, std::string_view name);

}  // namespace imgconv
