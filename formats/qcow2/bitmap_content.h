// BitmapContent: the bits of one persistent bitmap while it is in use: its table, and those
// clusters of bits that were looked at or changed.
//
// What the file refers to is never overwritten: a changed cluster goes to a new place, and store()
// writes a new table. Who then makes the directory point to it gets the old places from
// take_released(). Memory is bounded, since changed clusters are written out when there are many.
// Loop thread only; the caller lets in one task at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "formats/bitmap_store.h"
#include "formats/qcow2/allocator.h"
#include "formats/qcow2/bitmap_table.h"
#include "formats/qcow2/refcount.h"
#include "formats/qcow2/table_io.h"
#include "formats/qcow2/units.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// What the number of bits follows from.
struct BitmapGeometry {
  uint64_t guest_size = 0;
  unsigned granularity_bits = 16;
  unsigned cluster_bits = 16;

  uint64_t bits() const;
  /// Entries of the table: clusters that hold the bits.
  uint64_t clusters() const;
  uint64_t bits_per_cluster() const { return uint64_t{8} << cluster_bits; }
};

class BitmapContent {
 public:
  /// A bitmap without a dirty bit that is nowhere in the file. `io` must outlive it.
  BitmapContent(TableIo& io, BitmapGeometry geometry);

  /// Becomes the bitmap in the file; EINVAL when its table is not valid. The table of a bitmap that
  /// is only to be removed may have another size than the geometry asks for. First.
  Task<Result<void>> load(HostOffset table_offset, uint32_t table_entries);

  /// Marks what a write of [range.begin, range.end) touches.
  Task<Result<void>> set(GuestRange range, Allocator& allocator);
  void clear();
  /// The disk has another size: bits behind its end are lost, new ones are clean.
  Task<Result<void>> resize(uint64_t guest_size);
  Task<Result<std::vector<GuestRange>>> dirty_ranges(uint64_t guest_offset);

  /// Is there anything that store() would have to write?
  bool is_changed() const { return is_changed_; }
  /// Bytes of bits in memory.
  uint64_t loaded_bytes() const { return pages_.size() << geometry_.cluster_bits; }
  /// Writes changed clusters of bits to new places and forgets all that are in memory.
  Task<Result<void>> spill(Allocator& allocator);
  /// All that is in the file, and what changed, at new places, then a new table; returns where it
  /// is.
  Task<Result<HostOffset>> store(Allocator& allocator);
  uint32_t table_entries() const { return static_cast<uint32_t>(table_.size()); }
  /// Clusters of the file that store() has replaced. To be freed when nothing refers to them.
  std::vector<HostClusters> take_released();
  /// All the clusters that it has in the file: the bitmap is removed.
  void release_all();

 private:
  struct Page {
    std::vector<std::byte> bytes;
    bool is_dirty = false;
  };
  using Pages = std::map<uint64_t, Page>;

  Task<Result<Page*>> page_of(uint64_t index);
  Task<Result<void>> spill_page(uint64_t index, Page& page, Allocator& allocator);
  Task<Result<void>> move_cluster(uint64_t index, Allocator& allocator);
  void release_cluster(uint64_t index);
  void release_table();
  /// Bits of the cluster that belong to the disk.
  uint64_t valid_bits(uint64_t index) const;
  void append_dirty(uint64_t index, std::span<const std::byte> bytes, uint64_t first_bit,
                    std::vector<GuestRange>& ranges) const;
  void append_bits(uint64_t first_bit, uint64_t end_bit, std::vector<GuestRange>& ranges) const;

  TableIo& io_;
  BitmapGeometry geometry_;
  std::vector<BitmapTableEntry> table_;
  /// Where the file has the table; no clusters when it has none.
  HostClusters table_place_;
  /// Clusters of bits that were written since load(): the file does not refer to them yet.
  std::vector<bool> is_new_;
  Pages pages_;
  bool is_changed_ = true;
  std::vector<HostClusters> released_;
};

}  // namespace imgconv::qcow2
