// The part of `check` that compares the stored refcounts with the references found, and sets right
// what may be set right in place (QCOW2.md 13, step 3). A refcount of 0 may stand for a lost block:
// that is left to rebuild_refcounts(). Loop thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "formats/qcow2/check_context.h"
#include "formats/qcow2/entries.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// The refcounts as the image states them, one block in memory at a time.
class StoredRefcounts {
 public:
  /// Both must outlive it.
  StoredRefcounts(CheckContext& context, std::span<const RefcountTableEntry> table)
      : context_(context), table_(table), block_(context.header.cluster_size()) {}

  /// The block that counts `cluster` is loaded; false when there is none, so that all its clusters
  /// have refcount 0. EIO, with QEMU's remark on the first one, for a misplaced block.
  Task<Result<bool>> load_block_of(HostCluster cluster);
  /// Requires: load_block_of(cluster) said true and was the last one called.
  uint64_t loaded(HostCluster cluster) const;
  Task<Result<uint64_t>> get(HostCluster cluster);
  /// The block that counts `cluster` is in memory: loaded() answers without waiting.
  bool has_loaded(HostCluster cluster) const {
    return loaded_index_ == cluster.index() / context_.header.refcount_block_entries();
  }
  /// Changes the count in memory; see write_block(). Requires: has_loaded(cluster), and the count
  /// fits the width.
  void set_loaded(HostCluster cluster, uint64_t count);
  /// Writes the loaded block if it was changed. To be awaited before another one is loaded.
  Task<Result<void>> write_block();

 private:
  CheckContext& context_;
  std::span<const RefcountTableEntry> table_;
  std::vector<std::byte> block_;
  std::optional<uint64_t> loaded_index_;
  bool is_changed_ = false;
  bool has_remarked_ = false;
};

/// Adds what differs to the report, repairs the counts that `mode` allows, and sets
/// report.image_end_offset. Requires: no block needs a rebuild, if mode allows anything.
Task<Result<void>> compare_refcounts(CheckContext& context, StoredRefcounts& stored,
                                     RepairMode mode);

}  // namespace imgconv::qcow2
