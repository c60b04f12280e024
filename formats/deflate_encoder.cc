#include "formats/deflate_encoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "loop/units.h"

namespace imgconv::rfc1951 {
namespace {

// Measured on 64 KiB clusters of a cloud disk (tests/bench/README.md, "Deflate").
/// Places that a search looks at.
constexpr int kDepth = 12;
/// A match this long is taken without looking for a better one at the next byte.
constexpr uint32_t kLazyLimit = 16;
/// Blocks are made of whole segments.
constexpr size_t kSegment = 4 * kKiB;
/// About what the codes of a dynamic block cost.
constexpr uint64_t kHeaderBits = 500;
/// A stored block can hold a little more.
constexpr size_t kMaxBlock = 32 * kKiB;

static_assert(kSegment + 2 * kMaxMatch < MatchFinder::kAhead);

/// Costs are compared in sixteenths of a bit.
constexpr uint64_t kCostUnits = 16;

/// n * log2(n), for which counts beyond the table are shortened to their upper bits.
uint64_t n_log_n(uint64_t n) {
  constexpr unsigned kTableBits = 12;
  static const auto table = [] {
    std::array<uint32_t, 1 << kTableBits> values{};
    for (size_t i = 2; i < values.size(); ++i) {
      const double value = static_cast<double>(i);
      values[i] = static_cast<uint32_t>(std::lround(value * std::log2(value) * kCostUnits));
    }
    return values;
  }();
  if (n < table.size()) return table[n];
  const unsigned shift = static_cast<unsigned>(std::bit_width(n)) - kTableBits;
  return (uint64_t{table[n >> shift]} << shift) + n * shift * kCostUnits;
}

template <size_t kSize>
uint64_t entropy(const std::array<uint32_t, kSize>& counts) {
  uint64_t total = 0;
  uint64_t sum = 0;
  for (const uint32_t count : counts) {
    total += count;
    sum += n_log_n(count);
  }
  return n_log_n(total) - sum;
}

/// What the symbols cost with ideal codes. Extra bits are left out: they are the same in any block.
uint64_t ideal_cost(const Histogram& histogram) {
  return entropy(histogram.literals) + entropy(histogram.distances);
}

}  // namespace

void DeflateEncoder::begin(std::span<const std::byte> input) {
  finder_.begin(input);
  input_ = input;
  position_ = 0;
  lookup_end_ = input.size() - std::min(input.size(), MatchFinder::kLookahead);
  if (symbols_.size() < input.size()) symbols_.resize(input.size());
  symbol_count_ = 0;
  segment_ = Stretch();
  has_block_ = false;
}

inline void DeflateEncoder::add_literal() {
  const uint32_t byte = std::to_integer<uint32_t>(input_[position_++]);
  symbols_[symbol_count_++] = byte;
  segment_.histogram.count_literal(byte);
}

inline void DeflateEncoder::add_match(const Match& match, size_t inserted) {
  symbols_[symbol_count_++] = match_symbol(match.length, match.distance);
  segment_.histogram.count_match(match.length, match.distance);
  const size_t end = std::min(position_ + match.length, lookup_end_);
  for (size_t at = position_ + inserted; at < end; ++at) finder_.insert(at);
  position_ += match.length;
}

void DeflateEncoder::parse(size_t end) {
  while (position_ < end) {
    if (position_ >= lookup_end_) {
      add_literal();
      continue;
    }
    Match match = finder_.find(position_, kMinMatch, kDepth);
    if (match.distance == 0) {
      add_literal();
      continue;
    }
    size_t inserted = 1;
    while (match.length < kLazyLimit && position_ + 1 < lookup_end_) {
      const Match next = finder_.find(position_ + 1, match.length + 1, kDepth);
      inserted = 2;
      if (next.distance == 0) break;
      add_literal();
      match = next;
      inserted = 1;
    }
    add_match(match, inserted);
  }
}

bool DeflateEncoder::write(BitWriter& writer, Stretch& stretch, size_t end_byte, size_t end_symbol,
                           bool is_last) {
  stretch.histogram.literals[kEndOfBlock] = 1;
  Block block;
  block.bytes = input_.subspan(stretch.first_byte, end_byte - stretch.first_byte);
  block.symbols =
      std::span(symbols_).subspan(stretch.first_symbol, end_symbol - stretch.first_symbol);
  block.histogram = stretch.histogram;
  block.is_last = is_last;
  return write_block(writer, block);
}

bool DeflateEncoder::place_segment(BitWriter& writer) {
  segment_.cost = ideal_cost(segment_.histogram);
  if (has_block_ && position_ - block_.first_byte <= kMaxBlock) {
    Histogram together = block_.histogram;
    together.add(segment_.histogram);
    const uint64_t cost = ideal_cost(together);
    if (cost < block_.cost + segment_.cost + kHeaderBits * kCostUnits) {
      block_.histogram = together;
      block_.cost = cost;
      return true;
    }
  }
  if (has_block_ &&
      !write(writer, block_, segment_.first_byte, segment_.first_symbol, /*is_last=*/false)) {
    return false;
  }
  block_ = segment_;
  has_block_ = true;
  return true;
}

std::optional<size_t> DeflateEncoder::encode(std::span<const std::byte> input,
                                             std::span<std::byte> output) {
  begin(input);
  BitWriter writer(output);
  while (position_ < input.size()) {
    finder_.move_base(position_);
    segment_ = Stretch();
    segment_.first_byte = position_;
    segment_.first_symbol = symbol_count_;
    parse(std::min(position_ + kSegment, input.size()));
    if (!place_segment(writer)) return std::nullopt;
  }
  if (!has_block_) block_ = Stretch();
  if (!write(writer, block_, input.size(), symbol_count_, /*is_last=*/true)) return std::nullopt;
  writer.align();
  return writer.size();
}

}  // namespace imgconv::rfc1951
