// Random: a small generator for delays and choices that want a seed, not quality.
#pragma once

#include <cstdint>

namespace imgconv::history {

class Random {
 public:
  /// Different streams of one seed are as good as different seeds.
  explicit Random(uint64_t seed, uint64_t stream = 0)
      // The multiplier spreads small numbers over the word (2^64 / golden ratio); never zero.
      : state_(((seed << 8) + stream) * 0x9E3779B97F4A7C15 | 1) {}

  /// xorshift64 (Marsaglia 2003), without its weak low bits.
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ >> 16;
  }
  /// 0 to `limit` - 1; 0 if `limit` is 0.
  uint64_t below(uint64_t limit) { return limit == 0 ? 0 : next() % limit; }

 private:
  uint64_t state_;
};

}  // namespace imgconv::history
