// Byte units and arithmetic on sizes that came from outside. Pure functions, any thread.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

namespace imgconv {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kTiB = 1024 * kGiB;
/// "Sector" always means 512 bytes (QCOW2.md, conventions).
inline constexpr uint64_t kSectorSize = 512;

/// Requires: `unit` > 0.
constexpr uint64_t round_down(uint64_t value, uint64_t unit) { return value - value % unit; }
/// Requires: `unit` > 0 and the result fits in 64 bits.
constexpr uint64_t round_up(uint64_t value, uint64_t unit) {
  return value % unit == 0 ? value : value - value % unit + unit;
}
/// Requires: `unit` > 0.
constexpr uint64_t div_round_up(uint64_t value, uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}
constexpr bool is_aligned(uint64_t value, uint64_t unit) { return value % unit == 0; }
constexpr bool is_power_of_two(uint64_t value) { return std::has_single_bit(value); }

/// Sum, or nothing when it does not fit in 64 bits.
constexpr std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}
/// Product, or nothing when it does not fit in 64 bits.
constexpr std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace imgconv
