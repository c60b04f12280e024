// Cuts one run of source data into what is written and what is left out: the rule of -S.
//
// The three rules of CLI.md 2.2, over the sector bitmap of engine/zero_scan.h. Whoever wants the
// same holes as qemu-img must feed it runs with qemu-img's boundaries; making those is the work of
// engine/extent_cursor.h. A pure function, any thread; offsets and lengths are sectors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace imgconv {

struct SparseRule {
  /// Zero sectors needed to leave a hole inside a run: -S / 512. > 0.
  uint64_t min_sectors = 8;
  /// Boundaries between data and holes are multiples of this. A power of two.
  uint64_t alignment_sectors = 8;
};

struct SparsePiece {
  uint32_t first_sector = 0;  ///< Counted from the begin of the run.
  uint32_t sectors = 0;
  bool is_data = false;
  bool operator==(const SparsePiece&) const = default;
};

/// Appends the pieces of a run of `sectors` that begins at `guest_sector` of the disk; they are
/// adjacent and cover it. Requires: the bitmap covers the run, sectors > 0.
void sparse_split(std::span<const uint64_t> bitmap, uint64_t guest_sector, uint32_t sectors,
                  const SparseRule& rule, std::vector<SparsePiece>& pieces);

}  // namespace imgconv
