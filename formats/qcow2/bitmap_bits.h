// The bits of a dirty bitmap in memory: bit 0 is the lowest of the first byte (QCOW2.md 9). Pure
// functions over bytes that the caller owns; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace imgconv::qcow2 {

/// Sets [first, end). True when one of them was clear. Requires: first < end, all in `bytes`.
bool set_bits(std::span<std::byte> bytes, uint64_t first, uint64_t end);

/// Clears every bit from `first` to the end of `bytes`.
void clear_bits_from(std::span<std::byte> bytes, uint64_t first);

/// The first bit in [first, end) that is `value`, or `end`. Requires: all in `bytes`.
uint64_t find_bit(std::span<const std::byte> bytes, uint64_t first, uint64_t end, bool value);

}  // namespace imgconv::qcow2
