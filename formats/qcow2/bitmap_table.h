// The table of one persistent bitmap (QCOW2.md 9): where each cluster of its bits is. A value that
// exists is valid. Loop thread only for read_bitmap_table().
#pragma once

#include <cstdint>
#include <vector>

#include "formats/qcow2/table_io.h"
#include "formats/qcow2/units.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// | bits | |
/// |--|--|
/// | 0 | without data: the value of all bits of the cluster; with data 0 |
/// | 9-55 | host offset of a cluster of bits; 0: there is no data |
/// | others | 0 |
class BitmapTableEntry {
 public:
  /// All bits are 0.
  constexpr BitmapTableEntry() = default;
  /// EINVAL without text.
  static Result<BitmapTableEntry> parse(uint64_t raw, unsigned cluster_bits);
  static BitmapTableEntry data(HostOffset offset) { return BitmapTableEntry(offset.bytes()); }

  uint64_t raw() const { return raw_; }
  bool has_data() const { return raw_ > kAllOnes; }
  bool is_all_ones() const { return raw_ == kAllOnes; }
  bool is_all_zeros() const { return raw_ == 0; }
  /// Requires: has_data().
  HostOffset offset() const { return HostOffset(raw_); }

 private:
  static constexpr uint64_t kAllOnes = 1;
  constexpr explicit BitmapTableEntry(uint64_t raw) : raw_(raw) {}

  uint64_t raw_ = 0;
};

/// Reads and checks the whole table; EINVAL for what is not valid.
Task<Result<std::vector<BitmapTableEntry>>> read_bitmap_table(TableIo& io, HostOffset table_offset,
                                                              uint32_t entries,
                                                              unsigned cluster_bits);

}  // namespace imgconv::qcow2
