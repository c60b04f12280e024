// Pattern: bytes whose value says where they belong. Each 8-byte word holds its own offset and a
// seed, big-endian, so that misplaced data tells where it came from and no word is zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace imgconv::test {

inline constexpr uint16_t kPatternSeed = 0xA55A;

/// Requires: `seed` > 0, offsets below 2^48. `offset` need not be a multiple of 8.
void fill_pattern(std::span<std::byte> buffer, uint64_t offset, uint16_t seed = kPatternSeed);
std::vector<std::byte> pattern(uint64_t offset, uint64_t length, uint16_t seed = kPatternSeed);

/// Nothing when the buffer is the pattern of `offset`; else a sentence on the first wrong byte, and
/// where the data there would belong.
std::optional<std::string> pattern_mismatch(std::span<const std::byte> buffer, uint64_t offset,
                                            uint16_t seed = kPatternSeed);
bool is_pattern(std::span<const std::byte> buffer, uint64_t offset, uint16_t seed = kPatternSeed);
bool is_zero(std::span<const std::byte> buffer);

}  // namespace imgconv::test
