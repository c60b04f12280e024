#include "engine/rate_limit.h"

#include <algorithm>

namespace imgconv {

std::chrono::nanoseconds RateLimit::charge(uint64_t bytes, Time now) {
  if (!is_limited()) return std::chrono::nanoseconds(0);
  const Time begin = std::max(free_at_, now);
  // A chunk is at most 16 MiB, so a double holds its duration well enough at any rate.
  const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_second_);
  free_at_ = begin + std::chrono::duration_cast<std::chrono::nanoseconds>(
                         std::chrono::duration<double>(seconds));
  return begin - now;
}

}  // namespace imgconv
