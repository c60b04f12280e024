// Sizes as written inside -o (CLI.md 1.2): "64k", "1.5G", ".5k", "0x200".

#include <array>
#include <cerrno>
#include <charconv>
#include <limits>
#include <string>
#include <system_error>

#include "formats/options.h"
#include "loop/units.h"

namespace imgconv {
namespace {

Error not_a_size(std::string_view name) {
  return Error(EINVAL,
               "Parameter '" + std::string(name) + "' expects a non-negative number below 2^64")
      .with_hint(
          "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
          "and exabytes, respectively.");
}

Error out_of_range(std::string_view name, std::string_view text) {
  return Error(ERANGE, "Value '" + std::string(text) + "' is out of range for parameter '" +
                           std::string(name) + "'");
}

/// Multiplier of a one-letter suffix; none for another letter.
std::optional<uint64_t> suffix_factor(char suffix) {
  constexpr std::string_view kSuffixes = "bkmgtpe";
  const char lower =
      suffix >= 'A' && suffix <= 'Z' ? static_cast<char>(suffix - 'A' + 'a') : suffix;
  const size_t index = kSuffixes.find(lower);
  if (index == std::string_view::npos) return std::nullopt;
  return uint64_t{1} << (10 * index);
}

std::string_view take_while(std::string_view& text, std::string_view allowed) {
  const size_t length = std::min(text.find_first_not_of(allowed), text.size());
  const std::string_view taken = text.substr(0, length);
  text.remove_prefix(length);
  return taken;
}

struct Digits {
  std::string_view text;
  uint64_t value = 0;
  bool is_too_large = false;
};

Digits take_digits(std::string_view& text, int base) {
  Digits digits;
  digits.text = take_while(text, base == 16 ? "0123456789abcdefABCDEF" : "0123456789");
  const char* end = digits.text.data() + digits.text.size();
  const auto parsed = std::from_chars(digits.text.data(), end, digits.value, base);
  digits.is_too_large = parsed.ec == std::errc::result_out_of_range;
  return digits;
}

/// 0 <= result <= 1: many nines round up to 1.
double fraction_of(std::string_view digits) {
  const std::string number = "0." + std::string(digits);
  double fraction = 0;
  std::from_chars(number.data(), number.data() + number.size(), fraction);
  return fraction;
}

bool is_hexadecimal(std::string_view text) {
  return text.size() > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

Result<uint64_t> parse_hexadecimal(std::string_view name, std::string_view text,
                                   std::string_view rest) {
  rest.remove_prefix(2);
  const Digits digits = take_digits(rest, 16);
  if (digits.text.empty() || !rest.empty()) return not_a_size(name);
  if (digits.is_too_large) return out_of_range(name, text);
  return digits.value;
}

}  // namespace

Result<uint64_t> parse_option_size(std::string_view name, std::string_view text) {
  std::string_view rest = text;
  take_while(rest, " \t\n\v\f\r");
  const bool is_negative = rest.starts_with('-');
  if (is_negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (!is_negative && is_hexadecimal(rest)) return parse_hexadecimal(name, text, rest);

  const Digits whole = take_digits(rest, 10);
  if (is_negative || whole.is_too_large) {
    // A number, but not one we can hold; with anything behind it, it is no number at all.
    return rest.empty() && !whole.text.empty() ? out_of_range(name, text) : not_a_size(name);
  }
  double fraction = 0;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    const std::string_view digits = take_while(rest, "0123456789");
    if (whole.text.empty() && digits.empty()) return not_a_size(name);
    fraction = fraction_of(digits);
  } else if (whole.text.empty()) {
    return not_a_size(name);
  }

  uint64_t factor = 1;
  if (!rest.empty()) {
    const std::optional<uint64_t> suffix = suffix_factor(rest[0]);
    if (!suffix || rest.size() > 1) return not_a_size(name);
    factor = *suffix;
  }
  if (fraction > 0 && factor == 1) return not_a_size(name);
  const auto fraction_bytes = static_cast<uint64_t>(fraction * static_cast<double>(factor) + 0.5);
  const std::optional<uint64_t> whole_bytes = checked_mul(whole.value, factor);
  if (!whole_bytes) return out_of_range(name, text);
  const std::optional<uint64_t> bytes = checked_add(*whole_bytes, fraction_bytes);
  if (!bytes) return out_of_range(name, text);
  return *bytes;
}

}  // namespace imgconv
