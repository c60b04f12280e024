// One block of a deflate stream (RFC 1951, 3.2.3 to 3.2.7): chooses between stored, fixed and
// dynamic codes by their exact cost, and writes it. For the encoder only; no state of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "formats/deflate_format.h"

namespace imgconv::rfc1951 {

/// Bits into a span, the first one lowest.
class BitWriter {
 public:
  /// Bytes behind what was written that flush() may touch.
  static constexpr size_t kSlack = 8;

  explicit BitWriter(std::span<std::byte> output) : output_(output) {}

  /// Requires: no more than 56 bits since the last flush().
  void put(uint64_t bits, unsigned count) {
    pending_ |= bits << pending_bits_;
    pending_bits_ += count;
  }
  /// Requires: has_room(0) before the first put() since the last one.
  void flush() {
    std::memcpy(output_.data() + used_, &pending_, sizeof pending_);
    used_ += pending_bits_ / 8;
    pending_ >>= pending_bits_ / 8 * 8;
    pending_bits_ %= 8;
  }
  /// Up to the next byte, and everything out.
  void align() {
    pending_bits_ = (pending_bits_ + 7) / 8 * 8;
    flush();
  }
  void append(std::span<const std::byte> bytes) {
    std::memcpy(output_.data() + used_, bytes.data(), bytes.size());
    used_ += bytes.size();
  }

  bool has_room(uint64_t bits) const {
    return used_ + (pending_bits_ + bits + 7) / 8 + kSlack <= output_.size();
  }
  /// Bits in the last byte that is not full.
  unsigned odd_bits() const { return pending_bits_ % 8; }
  /// Whole bytes, after align().
  size_t size() const { return used_; }

 private:
  std::span<std::byte> output_;
  size_t used_ = 0;
  uint64_t pending_ = 0;
  unsigned pending_bits_ = 0;
};

/// What one block holds: the bytes, and the symbols they were parsed to, counted.
struct Block {
  std::span<const std::byte> bytes;
  std::span<const Symbol> symbols;
  /// With one kEndOfBlock.
  Histogram histogram;
  bool is_last = false;
};

/// False: it does not fit, and some of it may have been written.
bool write_block(BitWriter& writer, const Block& block);

}  // namespace imgconv::rfc1951
