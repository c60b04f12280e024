#include "formats/deflate_block.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "formats/deflate_huffman.h"

namespace imgconv::rfc1951 {
namespace {

enum class BlockType : uint8_t { kStored = 0, kFixed = 1, kDynamic = 2 };
constexpr unsigned kTypeBits = 3;
constexpr size_t kMaxStored = 65535;

/// Code lengths are themselves coded: 0 to 15, and three kinds of repetition.
constexpr size_t kLengthCodes = 19;
constexpr unsigned kRepeatLast = 16;
constexpr unsigned kShortZeros = 17;
constexpr unsigned kLongZeros = 18;
constexpr std::array<uint8_t, kLengthCodes> kLengthCodeOrder = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                                11, 4,  12, 3, 13, 2, 14, 1, 15};
constexpr unsigned kLengthCodeBits = 7;

struct Codes {
  // The fixed codes have more symbols than ever occur.
  std::array<uint8_t, kMaxSymbols> literal_lengths{};
  std::array<uint8_t, 32> distance_lengths{};
  std::array<uint16_t, kMaxSymbols> literals{};
  std::array<uint16_t, 32> distances{};
};

Codes fixed_codes() {
  Codes codes;
  for (size_t symbol = 0; symbol < kMaxSymbols; ++symbol) {
    codes.literal_lengths[symbol] = symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8;
  }
  codes.distance_lengths.fill(5);
  return codes;
}

Codes dynamic_codes(const Histogram& histogram) {
  Codes codes;
  make_code_lengths(histogram.literals, kMaxCodeBits,
                    std::span(codes.literal_lengths).first(kLiteralSymbols));
  make_code_lengths(histogram.distances, kMaxCodeBits,
                    std::span(codes.distance_lengths).first(kDistanceSymbols));
  return codes;
}

/// Bits of all symbols with the given lengths.
uint64_t cost_of_symbols(const Histogram& histogram, const Codes& codes) {
  uint64_t bits = 0;
  for (size_t i = 0; i < kLiteralSymbols; ++i) {
    const unsigned extra = i >= kFirstLength ? kLengthExtraBits[i - kFirstLength] : 0;
    bits += uint64_t{histogram.literals[i]} * (codes.literal_lengths[i] + extra);
  }
  for (size_t i = 0; i < kDistanceSymbols; ++i) {
    bits += uint64_t{histogram.distances[i]} * (codes.distance_lengths[i] + kDistanceExtraBits[i]);
  }
  return bits;
}

/// The code lengths of a dynamic block, as they are written.
class CodeDescription {
 public:
  explicit CodeDescription(const Codes& codes) {
    while (codes.literal_lengths[literals_ - 1] == 0) --literals_;
    while (distances_ > 1 && codes.distance_lengths[distances_ - 1] == 0) --distances_;
    std::array<uint8_t, kLiteralSymbols + kDistanceSymbols> all;
    std::copy_n(codes.literal_lengths.begin(), literals_, all.begin());
    std::copy_n(codes.distance_lengths.begin(), distances_, all.begin() + literals_);
    const std::span<const uint8_t> lengths(all.data(), literals_ + distances_);
    for (size_t at = 0; at < lengths.size();) {
      size_t end = at + 1;
      while (end < lengths.size() && lengths[end] == lengths[at]) ++end;
      add_run(lengths[at], end - at);
      at = end;
    }
    make_code_lengths(frequencies_, kLengthCodeBits, code_lengths_);
    while (used_codes_ > 4 && code_lengths_[kLengthCodeOrder[used_codes_ - 1]] == 0) --used_codes_;
  }

  uint64_t bits() const {
    uint64_t bits = 5 + 5 + 4 + 3 * used_codes_;
    for (size_t i = 0; i < item_count_; ++i) {
      bits += code_lengths_[items_[i].code] + extra_bits(items_[i].code);
    }
    return bits;
  }

  void write(BitWriter& writer) const {
    writer.put(literals_ - kFirstLength, 5);
    writer.put(distances_ - 1, 5);
    writer.put(used_codes_ - 4, 4);
    writer.flush();
    for (size_t i = 0; i < used_codes_; ++i) {
      writer.put(code_lengths_[kLengthCodeOrder[i]], 3);
      writer.flush();
    }
    std::array<uint16_t, kLengthCodes> codes{};
    make_codes(code_lengths_, codes);
    for (size_t i = 0; i < item_count_; ++i) {
      const Item& item = items_[i];
      writer.put(codes[item.code], code_lengths_[item.code]);
      writer.put(item.extra, extra_bits(item.code));
      writer.flush();
    }
  }

 private:
  struct Item {
    uint8_t code;
    uint8_t extra;
  };

  static unsigned extra_bits(unsigned code) {
    return code == kRepeatLast ? 2 : code == kShortZeros ? 3 : code == kLongZeros ? 7 : 0;
  }

  void add(unsigned code, size_t extra) {
    items_[item_count_++] = {static_cast<uint8_t>(code), static_cast<uint8_t>(extra)};
    ++frequencies_[code];
  }

  void add_run(unsigned length, size_t count) {
    if (length == 0) {
      while (count >= 11) {
        const size_t taken = std::min<size_t>(count, 138);
        add(kLongZeros, taken - 11);
        count -= taken;
      }
      if (count >= 3) add(kShortZeros, std::exchange(count, 0) - 3);
    } else if (count >= 4) {
      add(length, 0);
      --count;
      while (count >= 3) {
        const size_t taken = std::min<size_t>(count, 6);
        add(kRepeatLast, taken - 3);
        count -= taken;
      }
    }
    for (; count > 0; --count) add(length, 0);
  }

  size_t literals_ = kLiteralSymbols;
  size_t distances_ = kDistanceSymbols;
  size_t used_codes_ = kLengthCodes;
  std::array<Item, kLiteralSymbols + kDistanceSymbols> items_;
  size_t item_count_ = 0;
  std::array<uint32_t, kLengthCodes> frequencies_{};
  std::array<uint8_t, kLengthCodes> code_lengths_{};
};

void write_symbols(BitWriter& writer, std::span<const Symbol> symbols, Codes& codes) {
  make_codes(codes.literal_lengths, codes.literals);
  make_codes(codes.distance_lengths, codes.distances);
  // Code and extra bits of each length in one.
  std::array<uint32_t, kMaxMatch + 1> length_bits;
  std::array<uint8_t, kMaxMatch + 1> length_counts;
  for (uint32_t length = kMinMatch; length <= kMaxMatch; ++length) {
    const uint32_t slot = length_slot(length);
    const unsigned count = codes.literal_lengths[kFirstLength + slot];
    length_bits[length] = codes.literals[kFirstLength + slot] | (length - kLengthBase[slot])
                                                                    << count;
    length_counts[length] = static_cast<uint8_t>(count + kLengthExtraBits[slot]);
  }
  const Symbol* at = symbols.data();
  const Symbol* const end = at + symbols.size();
  while (at < end) {
    // Three literals, or a match, are at most 48 bits.
    for (int left = 3; left > 0 && at < end && is_literal(*at); --left, ++at) {
      writer.put(codes.literals[*at], codes.literal_lengths[*at]);
    }
    writer.flush();
    if (at == end || is_literal(*at)) continue;
    const uint32_t length = length_of(*at);
    const uint32_t distance = distance_of(*at++);
    const uint32_t slot = distance_slot(distance);
    writer.put(length_bits[length], length_counts[length]);
    writer.put(codes.distances[slot], codes.distance_lengths[slot]);
    writer.put(distance - kDistanceBase[slot], kDistanceExtraBits[slot]);
    writer.flush();
  }
  writer.put(codes.literals[kEndOfBlock], codes.literal_lengths[kEndOfBlock]);
  writer.flush();
}

void write_stored(BitWriter& writer, const Block& block) {
  writer.put(block.is_last, kTypeBits);
  writer.align();
  const uint64_t length = block.bytes.size();
  writer.put(length | (length ^ 0xffff) << 16, 32);
  writer.flush();
  writer.append(block.bytes);
}

/// Bits of a stored block from here, padding included.
uint64_t cost_of_stored(const BitWriter& writer, const Block& block) {
  if (block.bytes.size() > kMaxStored) return std::numeric_limits<uint64_t>::max();
  const unsigned padding = (16 - writer.odd_bits() - kTypeBits) % 8;
  return kTypeBits + padding + 32 + 8 * uint64_t{block.bytes.size()};
}

}  // namespace

bool write_block(BitWriter& writer, const Block& block) {
  Codes dynamic = dynamic_codes(block.histogram);
  const CodeDescription description(dynamic);
  Codes fixed = fixed_codes();
  const uint64_t dynamic_cost =
      kTypeBits + description.bits() + cost_of_symbols(block.histogram, dynamic);
  const uint64_t fixed_cost = kTypeBits + cost_of_symbols(block.histogram, fixed);
  const uint64_t stored_cost = cost_of_stored(writer, block);
  const uint64_t cost = std::min({dynamic_cost, fixed_cost, stored_cost});
  if (!writer.has_room(cost)) return false;
  if (stored_cost == cost) {
    write_stored(writer, block);
    return true;
  }
  const BlockType type = fixed_cost == cost ? BlockType::kFixed : BlockType::kDynamic;
  writer.put(uint64_t{block.is_last} | static_cast<uint64_t>(type) << 1, kTypeBits);
  writer.flush();
  if (type == BlockType::kDynamic) description.write(writer);
  write_symbols(writer, block.symbols, type == BlockType::kFixed ? fixed : dynamic);
  return true;
}

}  // namespace imgconv::rfc1951
