// L1References: every use of a host cluster that comes from one L1 table: its L2 tables, and the
// clusters that their entries show.
//
// A snapshot adds one to the count of each when it is taken and takes one when it goes. Reads L2
// tables from the file itself: what is in the caches must have been written. It does not touch the
// L1 table's own clusters. Loop thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/qcow2/metadata.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class L1References {
 public:
  /// The table must outlive it.
  L1References(const Metadata& metadata, std::span<const L1Entry> l1);

  /// Adds one for each use. All or nothing: EINVAL when a count is at its limit (QCOW2.md 2).
  Task<Result<void>> add();
  /// After add(), whose counts nothing on the disk refers to any more.
  Task<Result<void>> take_back();
  /// Takes one for each use that is no other metadata, and gives the space of clusters that are
  /// free then back to the file system. Requires: nothing on the disk leads to the table any more.
  Task<Result<void>> drop();

 private:
  enum class Change : uint8_t {
    kAdd,
    kUndo,  ///< What kAdd has done.
    kDrop,
  };

  /// Visits uses in a fixed order, at most `limit` of them.
  Task<Result<void>> visit_all(Change change, uint64_t limit);
  Task<Result<void>> visit_table(Change change, L1Entry entry, uint64_t l1_index);
  /// `kind`: what the clusters are, when they are not data.
  Task<Result<void>> visit(Change change, HostClusters clusters,
                           std::optional<MetadataKind> kind = std::nullopt);
  Task<Result<void>> drop_one(uint64_t host_cluster);
  Result<HostClusters> clusters_of(L2Entry entry, uint64_t table_offset, uint64_t index) const;
  Task<Result<void>> discard_freed();

  const Metadata metadata_;
  const std::span<const L1Entry> l1_;
  std::vector<std::byte> table_;
  /// Clusters that the current visit has changed, and may change.
  uint64_t visited_ = 0;
  uint64_t limit_ = 0;
  /// Freed and not yet discarded, while one table is visited.
  std::vector<HostClusters> freed_;
};

/// Brings the copied bits of the active tables in line with the refcounts (QCOW2.md 2), in memory:
/// they get to the file with the next flush.
Task<Result<void>> update_copied_bits(const Metadata& metadata);

}  // namespace imgconv::qcow2
