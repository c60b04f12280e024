// MatchFinder: where has this been before, at most 4 KiB back?
//
// Hash chains over four bytes, and for matches of three the last place only. Positions are kept in
// 16 bits relative to a base that moves along, so that the tables stay in the first-level cache.
// One input at a time; belongs to one thread. In a header, since all time is spent here.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "formats/deflate_format.h"

namespace imgconv::rfc1951 {

struct Match {
  uint32_t length = 0;
  uint32_t distance = 0;  ///< 0: none was found.
};

class MatchFinder {
 public:
  /// Bytes that must follow a position that is looked up or inserted.
  static constexpr size_t kLookahead = 8;
  static constexpr uint32_t kAhead = kWindow + 1024;

  void begin(std::span<const std::byte> input) {
    input_ = reinterpret_cast<const uint8_t*>(input.data());
    size_ = input.size();
    base_ = 0;
    heads_.fill(kNone);
    short_heads_.fill(kNone);
  }

  /// The longest match of at least `min_length` at `position`, which is inserted. Looks at no more
  /// than `depth` places. Requires: positions come in ascending order, each once.
  Match find(size_t position, uint32_t min_length, int depth) {
    const uint32_t here = load32(input_ + position);
    const uint32_t entry = entry_of(position);
    uint16_t& head = heads_[hash4(here)];
    uint16_t& short_head = short_heads_[hash3(here)];
    uint32_t candidate = head;
    const uint32_t short_candidate = short_head;
    previous_[position % kWindow] = head;
    head = short_head = static_cast<uint16_t>(entry);

    Match match;
    uint32_t best = min_length - 1;
    const uint32_t longest = static_cast<uint32_t>(std::min<size_t>(kMaxMatch, size_ - position));
    if (best >= longest) return match;
    const uint32_t oldest = entry - kWindow;
    const uint8_t* const bytes = input_ + position;
    if (best < kMinMatch && short_candidate >= oldest) {
      const uint32_t distance = entry - short_candidate;
      if (((load32(bytes - distance) ^ here) & 0xffffff) == 0) match = {kMinMatch, distance};
    }
    // The chains are of four bytes.
    best = std::max(best, kMinMatch);
    while (candidate >= oldest && depth-- > 0) {
      const uint32_t distance = entry - candidate;
      const uint8_t* const other = bytes - distance;
      if (load32(other + best - 3) == load32(bytes + best - 3) && load32(other) == here) {
        const uint32_t length = common_length(bytes, other, longest);
        if (length > best) {
          match = {best = length, distance};
          if (length >= kNiceLength || length == longest) break;
        }
      }
      candidate = previous_[(position - distance) % kWindow];
    }
    return match;
  }

  void insert(size_t position) {
    const uint32_t here = load32(input_ + position);
    const uint16_t entry = static_cast<uint16_t>(entry_of(position));
    uint16_t& head = heads_[hash4(here)];
    previous_[position % kWindow] = head;
    head = short_heads_[hash3(here)] = entry;
  }

  /// To be called so often that no position is looked up kAhead bytes behind the last call.
  void move_base(size_t position) {
    if (position - base_ < kStep) return;
    base_ += kStep;
    const auto move = [](auto& entries) {
      for (uint16_t& entry : entries) {
        entry = static_cast<uint16_t>(std::max<uint32_t>(entry, kStep) - kStep);
      }
    };
    move(heads_);
    move(short_heads_);
    move(previous_);
  }

 private:
  /// A match of this length is not improved on.
  static constexpr uint32_t kNiceLength = 48;
  static constexpr unsigned kHashBits = 14;
  static constexpr uint16_t kNone = 0;
  /// A multiple of the window, and far enough from 2^16.
  static constexpr uint32_t kStep = 13 * kWindow;
  static_assert(kStep + kAhead + kWindow < 1U << 16);

  static uint32_t load32(const uint8_t* bytes) {
    uint32_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
  }
  static uint64_t load64(const uint8_t* bytes) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
  }
  // Multiplication by 2^32 over the golden ratio spreads the bits upwards.
  static uint32_t hash4(uint32_t word) { return (word * 0x9e3779b1U) >> (32 - kHashBits); }
  static uint32_t hash3(uint32_t word) { return hash4(word << 8); }

  /// Entries of all that lies in the window are at least this minus kWindow, and never kNone.
  uint32_t entry_of(size_t position) const {
    return static_cast<uint32_t>(position - base_) + kWindow + 1;
  }

  /// Requires: four bytes agree.
  static uint32_t common_length(const uint8_t* a, const uint8_t* b, uint32_t longest) {
    uint32_t length = 4;
    for (; length + sizeof(uint64_t) <= longest; length += sizeof(uint64_t)) {
      const uint64_t differing = load64(a + length) ^ load64(b + length);
      if (differing != 0) return length + static_cast<uint32_t>(std::countr_zero(differing)) / 8;
    }
    while (length < longest && a[length] == b[length]) ++length;
    return length;
  }

  const uint8_t* input_ = nullptr;
  size_t size_ = 0;
  size_t base_ = 0;
  std::array<uint16_t, 1 << kHashBits> heads_;
  std::array<uint16_t, 1 << kHashBits> short_heads_;
  std::array<uint16_t, kWindow> previous_;
};

}  // namespace imgconv::rfc1951
