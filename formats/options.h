// Typed key=value options: what follows -o, and what `-o help` prints (CLI.md 1.3).
// Values, any thread. No driver knowledge here: a driver owns an OptionList.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loop/result.h"

namespace imgconv {

enum class OptionType : uint8_t { kString, kSize, kNumber, kBool };

struct OptionSpec {
  std::string name;
  OptionType type = OptionType::kString;
  std::string help;
  /// Shown in the "Formatting" line when not given; as the user would write it.
  std::optional<std::string> default_value;
};

/// The options of one driver, in the order of the "Formatting" line.
using OptionList = std::vector<OptionSpec>;

/// Given options with parsed values. Every name is one of the list it was parsed against.
class OptionValues {
 public:
  bool has(std::string_view name) const;
  /// Typed access. Requires: the option's type matches. Nothing when it was not given.
  std::optional<std::string> string(std::string_view name) const;
  std::optional<uint64_t> number(std::string_view name) const;
  std::optional<bool> boolean(std::string_view name) const;

  void set_string(std::string_view name, std::string value);
  void set_number(std::string_view name, uint64_t value);
  void set_boolean(std::string_view name, bool value);
  void erase(std::string_view name);

 private:
  struct Value {
    std::string text;
    uint64_t number = 0;
    bool boolean = false;
  };
  std::map<std::string, Value, std::less<>> values_;
};

/// Parses "a=1,b=two,,three,c" ( ",," is a literal comma, a bare name means on) against `list`;
/// later values win. Errors: "Invalid option list: ,", "Invalid parameter 'foo'", "Parameter 'x'
/// expects ..." with the texts of CLI.md 1.2 and 1.3.
Result<OptionValues> parse_options(const OptionList& list, std::string_view text);

/// True when a piece is "help" or "?" (anywhere in the list).
bool asks_for_help(std::string_view text);

/// Is the list well formed: no piece empty or ending in an odd number of commas.
bool is_valid_option_text(std::string_view text);

/// The sorted lines of `-o help`: "  name=<type>" padded, " - text".
std::vector<std::string> option_help(const OptionList& list);

/// A size as inside -o: digits, fraction, suffix b k M G T P E. `name` is the option's. The error
/// carries the two lines on suffixes as its hint.
Result<uint64_t> parse_option_size(std::string_view name, std::string_view text);

}  // namespace imgconv
