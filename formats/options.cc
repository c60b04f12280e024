#include "formats/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "loop/try.h"

namespace imgconv {
namespace {

/// One piece of the list. Names end at '=' or ','; only values know ",,".
struct Piece {
  std::string name;
  std::string value;
  bool has_value = false;
};

/// Takes the first piece off a text that is not empty.
Piece take_piece(std::string_view& text) {
  Piece piece;
  const size_t name_length = std::min(text.find_first_of("=,"), text.size());
  piece.name = text.substr(0, name_length);
  text.remove_prefix(name_length);
  piece.has_value = text.starts_with('=');
  if (piece.has_value) {
    text.remove_prefix(1);
    while (!text.empty() && (text[0] != ',' || text.starts_with(",,"))) {
      piece.value += text[0];
      text.remove_prefix(text[0] == ',' ? 2 : 1);
    }
  }
  if (!text.empty()) text.remove_prefix(1);
  return piece;
}

/// A bare name means "on", and with "no" in front "off".
void give_bare_name_a_value(Piece& piece) {
  if (piece.has_value) return;
  const bool is_negated = piece.name.starts_with("no");
  if (is_negated) piece.name.erase(0, 2);
  piece.value = is_negated ? "off" : "on";
}

Result<bool> parse_boolean(const std::string& name, std::string_view text) {
  for (const std::string_view yes : {"on", "yes", "true", "y"}) {
    if (text == yes) return true;
  }
  for (const std::string_view no : {"off", "no", "false", "n"}) {
    if (text == no) return false;
  }
  return Error(EINVAL, "Parameter '" + name + "' expects 'on' or 'off'");
}

/// With the rules of strtoull in base 0, which users know: octal, hexadecimal, and a minus sign
/// that wraps around. The driver's range check meets what comes out.
Result<uint64_t> parse_number(const std::string& name, const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const unsigned long long value = std::strtoull(text.c_str(), &end, 0);
  if (end == text.c_str() || end != text.c_str() + text.size()) {
    return Error(EINVAL, "Parameter '" + name + "' expects a number");
  }
  if (errno == ERANGE) {
    return Error(ERANGE, "Value '" + text + "' is too large for parameter '" + name + "'");
  }
  return uint64_t{value};
}

const char* type_text(OptionType type) {
  switch (type) {
    case OptionType::kString:
      return "<str>";
    case OptionType::kSize:
      return "<size>";
    case OptionType::kNumber:
      return "<num>";
    case OptionType::kBool:
      return "<bool (on/off)>";
  }
  return "";
}

Result<void> set_parsed(OptionValues& values, const OptionSpec& spec, std::string text) {
  switch (spec.type) {
    case OptionType::kString:
      values.set_string(spec.name, std::move(text));
      break;
    case OptionType::kSize: {
      ASSIGN_OR_RETURN(const uint64_t size, parse_option_size(spec.name, text));
      values.set_number(spec.name, size);
      break;
    }
    case OptionType::kNumber: {
      ASSIGN_OR_RETURN(const uint64_t number, parse_number(spec.name, text));
      values.set_number(spec.name, number);
      break;
    }
    case OptionType::kBool: {
      ASSIGN_OR_RETURN(const bool boolean, parse_boolean(spec.name, text));
      values.set_boolean(spec.name, boolean);
      break;
    }
  }
  return ok();
}

}  // namespace

bool OptionValues::has(std::string_view name) const { return values_.find(name) != values_.end(); }

std::optional<std::string> OptionValues::string(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::nullopt;
  return found->second.text;
}

std::optional<uint64_t> OptionValues::number(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::nullopt;
  return found->second.number;
}

std::optional<bool> OptionValues::boolean(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::nullopt;
  return found->second.boolean;
}

void OptionValues::set_string(std::string_view name, std::string value) {
  values_.insert_or_assign(std::string(name), Value{std::move(value), 0, false});
}

void OptionValues::set_number(std::string_view name, uint64_t value) {
  values_.insert_or_assign(std::string(name), Value{{}, value, false});
}

void OptionValues::set_boolean(std::string_view name, bool value) {
  values_.insert_or_assign(std::string(name), Value{{}, 0, value});
}

void OptionValues::erase(std::string_view name) {
  const auto found = values_.find(name);
  if (found != values_.end()) values_.erase(found);
}

bool is_valid_option_text(std::string_view text) {
  if (text.empty() || text[0] == ',') return false;
  const size_t last_other = text.find_last_not_of(',');
  return (text.size() - 1 - last_other) % 2 == 0;
}

bool asks_for_help(std::string_view text) {
  while (!text.empty()) {
    const Piece piece = take_piece(text);
    if (!piece.has_value && (piece.name == "help" || piece.name == "?")) return true;
  }
  return false;
}

Result<OptionValues> parse_options(const OptionList& list, std::string_view text) {
  OptionValues values;
  if (text.empty()) return values;
  if (!is_valid_option_text(text)) {
    return Error(EINVAL, "Invalid option list: " + std::string(text));
  }
  while (!text.empty()) {
    Piece piece = take_piece(text);
    give_bare_name_a_value(piece);
    const auto spec = std::find_if(list.begin(), list.end(),
                                   [&](const OptionSpec& s) { return s.name == piece.name; });
    if (spec == list.end()) return Error(EINVAL, "Invalid parameter '" + piece.name + "'");
    RETURN_IF_ERROR(set_parsed(values, *spec, std::move(piece.value)));
  }
  return values;
}

std::vector<std::string> option_help(const OptionList& list) {
  // The widest column that still leaves room for the text; longer names push it to the right.
  constexpr int kNameColumn = 24;
  std::vector<std::string> lines;
  for (const OptionSpec& spec : list) {
    const std::string name = "  " + spec.name + "=" + type_text(spec.type);
    lines.push_back(fmt::format("{:<{}} - {}", name, kNameColumn, spec.help));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

}  // namespace imgconv
