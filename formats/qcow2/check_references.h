// First half of `check`: walks everything that refers to clusters of the image file and counts it:
// header, L1 and L2 tables, snapshots, bitmaps, refcount structures (QCOW2.md 13, step 2). Each
// entry is verified on the way. Loop thread only.
#pragma once

#include <span>
#include <vector>

#include "formats/qcow2/check_context.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/snapshot.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// `refcount_table` is the image's, in host order. All arguments must outlive the task. L2 entries
/// that can be repaired are, if the context allows. True when the snapshot table was counted: it
/// lies inside the file.
Task<Result<bool>> count_references(CheckContext& context, const SnapshotTable& snapshots,
                                    std::span<const RefcountTableEntry> refcount_table);

/// Entry `index` of an L2 table as it stands in the file. Requires: the table has it.
L2Entry load_l2_entry(std::span<const std::byte> table, uint64_t index, bool is_extended);

/// Reads `entries` 64-bit entries at `offset`, in host order. Requires: the caller bounded
/// `entries`.
Task<Result<std::vector<uint64_t>>> read_table(CheckContext& context, HostOffset offset,
                                               uint64_t entries);

}  // namespace imgconv::qcow2
