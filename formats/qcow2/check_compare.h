// Second half of `check`: compares the stored refcounts with the references found, then the copied
// bits of the active tables with the stored refcounts (QCOW2.md 13, steps 3 and 4). Loop thread.
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

 private:
  CheckContext& context_;
  std::span<const RefcountTableEntry> table_;
  std::vector<std::byte> block_;
  std::optional<uint64_t> loaded_index_;
  bool has_remarked_ = false;
};

/// Sets report.image_end_offset too.
Task<Result<void>> compare_refcounts(CheckContext& context, StoredRefcounts& stored);
Task<Result<void>> check_copied_bits(CheckContext& context, StoredRefcounts& stored);

}  // namespace imgconv::qcow2
