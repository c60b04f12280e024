#include "tests/support/pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace imgconv::test {
namespace {

constexpr unsigned kOffsetBits = 48;
constexpr uint64_t kOffsetMask = (uint64_t{1} << kOffsetBits) - 1;

std::byte pattern_byte(uint64_t offset, uint16_t seed) {
  const uint64_t word = uint64_t{seed} << kOffsetBits | (offset & ~uint64_t{7});
  return static_cast<std::byte>(word >> (8 * (7 - offset % 8)));
}

/// What the word around `index` says of itself, if all of it is in the buffer.
std::string origin_of(std::span<const std::byte> buffer, size_t index, uint64_t offset) {
  const uint64_t word_offset = (offset + index) & ~uint64_t{7};
  if (word_offset < offset || word_offset - offset + 8 > buffer.size()) return "";
  uint64_t word = 0;
  for (const std::byte byte : buffer.subspan(word_offset - offset, 8)) {
    word = word << 8 | std::to_integer<uint64_t>(byte);
  }
  if (word == 0) return " (zeros)";
  return fmt::format(" (word of offset {}, seed {:#x})", word & kOffsetMask, word >> kOffsetBits);
}

}  // namespace

void fill_pattern(std::span<std::byte> buffer, uint64_t offset, uint16_t seed) {
  assert(seed > 0 && offset + buffer.size() <= kOffsetMask);
  for (size_t i = 0; i < buffer.size(); ++i) buffer[i] = pattern_byte(offset + i, seed);
}

std::vector<std::byte> pattern(uint64_t offset, uint64_t length, uint16_t seed) {
  std::vector<std::byte> bytes(length);
  fill_pattern(bytes, offset, seed);
  return bytes;
}

std::optional<std::string> pattern_mismatch(std::span<const std::byte> buffer, uint64_t offset,
                                            uint16_t seed) {
  for (size_t i = 0; i < buffer.size(); ++i) {
    const std::byte expected = pattern_byte(offset + i, seed);
    if (buffer[i] == expected) continue;
    return fmt::format("byte {} is {:#04x}, not {:#04x}{}", offset + i,
                       std::to_integer<unsigned>(buffer[i]), std::to_integer<unsigned>(expected),
                       origin_of(buffer, i, offset));
  }
  return std::nullopt;
}

bool is_pattern(std::span<const std::byte> buffer, uint64_t offset, uint16_t seed) {
  return !pattern_mismatch(buffer, offset, seed);
}

bool is_zero(std::span<const std::byte> buffer) {
  return std::all_of(buffer.begin(), buffer.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace imgconv::test
