// Which 512-byte sectors of a buffer are all zero? The inner loop of every copy that makes holes.
//
// One scalar reference and vector forms of it that give the same answer; the processor decides at
// run time. Nothing outside the buffer is read. Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace imgconv {

/// One bit per sector, least significant first; set: the sector holds a byte that is not zero.
/// Words needed for that many sectors.
constexpr size_t sector_bitmap_words(size_t sectors) { return (sectors + 63) / 64; }

/// A form of the scan. Writes every word of the bitmap that belongs to the data; bits behind the
/// last sector are zero. A tail shorter than a sector counts as one.
/// Requires: the bitmap has sector_bitmap_words() of the data's sectors.
using SectorScan = void (*)(std::span<const std::byte> data, std::span<uint64_t> bitmap);

void scan_sectors_scalar(std::span<const std::byte> data, std::span<uint64_t> bitmap);

struct NamedSectorScan {
  const char* name;
  SectorScan scan;
};
/// Every form that this processor can run, the scalar one first, the fastest last.
std::span<const NamedSectorScan> sector_scans();

/// The fastest form.
void scan_sectors(std::span<const std::byte> data, std::span<uint64_t> bitmap);

/// True for a buffer without a byte that is not zero; stops at the first one.
bool is_all_zero(std::span<const std::byte> data);

}  // namespace imgconv
