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

/// Splits one run while its bitmap becomes known, so that data can be written before the rest of
/// the run is read. The pieces are the same in whatever steps that happens.
class SparseSplitter {
 public:
  /// The run begins at `guest_sector` of the disk. `rule` must outlive the splitter.
  SparseSplitter(uint64_t guest_sector, uint32_t sectors, const SparseRule& rule);

  /// Appends the pieces that the first `known` sectors decide, whatever follows; they go on where
  /// the last ones ended. What stays undecided is zeros, fewer than rule.min_sectors.
  /// Requires: the bitmap covers the known sectors, which never become fewer and end with the run
  /// or on a boundary of rule.alignment_sectors on the disk.
  void advance(std::span<const uint64_t> bitmap, uint32_t known, std::vector<SparsePiece>& pieces);
  /// Sectors that the pieces cover.
  uint32_t decided() const { return decided_; }

 private:
  struct Stretch {
    uint32_t sectors;
    bool is_data;
  };
  Stretch leading_stretch(std::span<const uint64_t> bitmap, uint32_t known) const;

  const uint64_t guest_sector_;
  const uint32_t sectors_;
  const SparseRule& rule_;
  /// Where the next stretch begins; behind decided_ after zeros that may belong to the data.
  uint32_t at_ = 0;
  uint32_t decided_ = 0;
  /// The piece that ends at decided_ is data and may go on.
  bool is_in_data_ = false;
};

/// Appends the pieces of a run of `sectors` that begins at `guest_sector` of the disk; they are
/// adjacent and cover it. Requires: the bitmap covers the run, sectors > 0.
void sparse_split(std::span<const uint64_t> bitmap, uint64_t guest_sector, uint32_t sectors,
                  const SparseRule& rule, std::vector<SparsePiece>& pieces);

}  // namespace imgconv
