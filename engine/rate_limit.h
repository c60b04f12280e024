// RateLimit: how long to wait so that a copy keeps to -r. Arithmetic only; the caller waits.
//
// Each charge books time behind the charges before it, so bytes that were too fast are paid back by
// the next ones. Takes the time as an argument and has no clock. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>

namespace imgconv {

class RateLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// 0: no limit.
  explicit RateLimit(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  bool is_limited() const { return bytes_per_second_ != 0; }
  /// Books `bytes` at `now`; returns how long to wait before moving them.
  std::chrono::nanoseconds charge(uint64_t bytes, Time now);

 private:
  const uint64_t bytes_per_second_;
  Time free_at_{};
};

}  // namespace imgconv
