// The alphabets of deflate (RFC 1951, 3.2.5), as far as a window of 4 KiB needs them, and how a
// parsed cluster is kept until its codes are known. For the encoder only. Values, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace imgconv::rfc1951 {

/// How far back a match may lie: what every reader of qcow2 has room for (F2).
inline constexpr uint32_t kWindow = 4096;
inline constexpr uint32_t kMinMatch = 3;
inline constexpr uint32_t kMaxMatch = 258;

/// Literals, the end of the block, lengths.
inline constexpr size_t kLiteralSymbols = 286;
inline constexpr uint32_t kEndOfBlock = 256;
inline constexpr uint32_t kFirstLength = 257;
/// Of 30 in all: those up to kWindow.
inline constexpr size_t kDistanceSymbols = 24;
inline constexpr size_t kLengthSlots = 29;

inline constexpr std::array<uint16_t, kLengthSlots> kLengthBase = {
    3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
    31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
inline constexpr std::array<uint8_t, kLengthSlots> kLengthExtraBits = {
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
inline constexpr std::array<uint16_t, kDistanceSymbols> kDistanceBase = {
    1,  2,  3,   4,   5,   7,   9,   13,  17,   25,   33,   49,
    65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073};
inline constexpr std::array<uint8_t, kDistanceSymbols> kDistanceExtraBits = {
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10};

/// Slots by length, and by distance: those up to 256 one by one, the others by steps of 128.
struct SlotTables {
  std::array<uint8_t, kMaxMatch + 1> length{};
  std::array<uint8_t, 256 + kWindow / 128> distance{};
};

constexpr SlotTables make_slot_tables() {
  SlotTables tables;
  for (size_t slot = 0; slot < kLengthSlots; ++slot) {
    for (size_t length = kLengthBase[slot]; length <= kMaxMatch; ++length) {
      tables.length[length] = static_cast<uint8_t>(slot);
    }
  }
  for (size_t slot = 0; slot < kDistanceSymbols; ++slot) {
    for (size_t distance = kDistanceBase[slot]; distance <= kWindow; ++distance) {
      const size_t at = distance <= 256 ? distance - 1 : 256 + (distance - 1) / 128;
      tables.distance[at] = static_cast<uint8_t>(slot);
    }
  }
  return tables;
}
inline constexpr SlotTables kSlots = make_slot_tables();

inline uint32_t length_slot(uint32_t length) { return kSlots.length[length]; }
inline uint32_t distance_slot(uint32_t distance) {
  return kSlots.distance[distance <= 256 ? distance - 1 : 256 + (distance - 1) / 128];
}

/// A literal (its byte), or a match (length in the upper half, distance in the lower).
using Symbol = uint32_t;
constexpr Symbol match_symbol(uint32_t length, uint32_t distance) {
  return length << 16 | distance;
}
constexpr bool is_literal(Symbol symbol) { return symbol < 256; }
constexpr uint32_t length_of(Symbol match) { return match >> 16; }
constexpr uint32_t distance_of(Symbol match) { return match & 0xffff; }

/// How often each code of a block is used.
struct Histogram {
  std::array<uint32_t, kLiteralSymbols> literals{};
  std::array<uint32_t, kDistanceSymbols> distances{};

  void count_literal(uint32_t byte) { ++literals[byte]; }
  void count_match(uint32_t length, uint32_t distance) {
    ++literals[kFirstLength + length_slot(length)];
    ++distances[distance_slot(distance)];
  }
  void add(const Histogram& other) {
    for (size_t i = 0; i < literals.size(); ++i) literals[i] += other.literals[i];
    for (size_t i = 0; i < distances.size(); ++i) distances[i] += other.distances[i];
  }
};

}  // namespace imgconv::rfc1951
