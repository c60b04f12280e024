#include "formats/qcow2/bitmap_bits.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

namespace imgconv::qcow2 {

namespace {

constexpr uint64_t kByteBits = 8;
constexpr uint64_t kWordBits = 64;

/// Bits [first, end) of one byte. Requires: first < end <= 8.
std::byte byte_mask(uint64_t first, uint64_t end) {
  return static_cast<std::byte>((0xffU >> (kByteBits - (end - first))) << first);
}

bool set_in_byte(std::byte& byte, std::byte mask) {
  const bool is_new = (byte & mask) != mask;
  byte |= mask;
  return is_new;
}

}  // namespace

bool set_bits(std::span<std::byte> bytes, uint64_t first, uint64_t end) {
  assert(first < end && end <= bytes.size() * kByteBits);
  bool is_changed = false;
  while (first < end) {
    const uint64_t in_byte = first % kByteBits;
    const uint64_t step = std::min(end - first, kByteBits - in_byte);
    std::byte& byte = bytes[first / kByteBits];
    is_changed = set_in_byte(byte, byte_mask(in_byte, in_byte + step)) || is_changed;
    first += step;
  }
  return is_changed;
}

void clear_bits_from(std::span<std::byte> bytes, uint64_t first) {
  const uint64_t byte = first / kByteBits;
  if (byte >= bytes.size()) return;
  bytes[byte] &= ~byte_mask(first % kByteBits, kByteBits);
  std::ranges::fill(bytes.subspan(byte + 1), std::byte{0});
}

uint64_t find_bit(std::span<const std::byte> bytes, uint64_t first, uint64_t end, bool value) {
  assert(end <= bytes.size() * kByteBits);
  while (first < end) {
    if (first % kByteBits == 0 && end - first >= kWordBits) {
      uint64_t word = 0;
      std::memcpy(&word, &bytes[first / kByteBits], sizeof(word));
      if (word == (value ? 0 : ~uint64_t{0})) {
        first += kWordBits;
        continue;
      }
    }
    const auto byte = std::to_integer<unsigned>(bytes[first / kByteBits]);
    // What is looked for becomes 1; the bits before `first` are out of question.
    const unsigned wanted = (value ? byte : ~byte & 0xffU) & (0xffU << first % kByteBits);
    if (wanted != 0) {
      const uint64_t found =
          first - first % kByteBits + static_cast<uint64_t>(std::countr_zero(wanted));
      return std::min(found, end);
    }
    first += kByteBits - first % kByteBits;
  }
  return end;
}

}  // namespace imgconv::qcow2
