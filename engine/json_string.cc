#include "engine/json_string.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

namespace imgconv {
namespace {

constexpr uint32_t kReplacementCharacter = 0xFFFD;

struct CodePoint {
  uint32_t value = kReplacementCharacter;
  size_t length = 1;
};

/// The first character of `text`. What is no valid UTF-8 becomes the replacement character; an
/// overlong or out-of-range sequence is swallowed whole, a truncated one up to its break.
CodePoint decode_utf8(std::string_view text) {
  const auto byte_at = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte_at(0);
  if (lead < 0x80) return {lead, 1};
  size_t length = 0;
  uint32_t value = 0;
  uint32_t smallest = 0;
  if ((lead & 0xE0) == 0xC0) {
    length = 2, value = lead & 0x1Fu, smallest = 0x80;
  } else if ((lead & 0xF0) == 0xE0) {
    length = 3, value = lead & 0x0Fu, smallest = 0x800;
  } else if ((lead & 0xF8) == 0xF0) {
    length = 4, value = lead & 0x07u, smallest = 0x10000;
  } else {
    return {};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || (byte_at(i) & 0xC0) != 0x80) return {kReplacementCharacter, i};
    value = (value << 6) | (byte_at(i) & 0x3Fu);
  }
  const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
  const bool is_noncharacter = (value & 0xFFFE) == 0xFFFE || (value >= 0xFDD0 && value <= 0xFDEF);
  if (value < smallest || value > 0x10FFFF || is_surrogate || is_noncharacter) {
    return {kReplacementCharacter, length};
  }
  return {value, length};
}

void append_escaped(std::string& text, uint32_t value) {
  switch (value) {
    case '"':
      text += "\\\"";
      return;
    case '\\':
      text += "\\\\";
      return;
    case '\b':
      text += "\\b";
      return;
    case '\f':
      text += "\\f";
      return;
    case '\n':
      text += "\\n";
      return;
    case '\r':
      text += "\\r";
      return;
    case '\t':
      text += "\\t";
      return;
    default:
      break;
  }
  if (value >= 0x20 && value < 0x7F) {
    text += static_cast<char>(value);
  } else if (value > 0xFFFF) {
    fmt::format_to(std::back_inserter(text), "\\u{:04X}\\u{:04X}",
                   0xD800 + ((value - 0x10000) >> 10), 0xDC00 + ((value - 0x10000) & 0x3FF));
  } else {
    fmt::format_to(std::back_inserter(text), "\\u{:04X}", value);
  }
}

}  // namespace

std::string json_string(std::string_view string) {
  std::string text = "\"";
  while (!string.empty()) {
    const CodePoint code_point = decode_utf8(string);
    append_escaped(text, code_point.value);
    string.remove_prefix(code_point.length);
  }
  text += '"';
  return text;
}

}  // namespace imgconv
