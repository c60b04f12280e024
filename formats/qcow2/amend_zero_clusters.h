// Doing without the zero flag, which version 2 does not have: clusters that read as zeros become
// unallocated, or real zeros where a backing image would show (QCOW2.md 12). For the active tables
// and those of every snapshot. Loop thread only.
#pragma once

#include <span>

#include "formats/image.h"
#include "formats/qcow2/snapshot.h"
#include "formats/qcow2/writer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Requires: standard L2 entries; what the writer has in memory was flushed.
Task<Result<void>> expand_zero_clusters(Writer& writer, std::span<const Snapshot> snapshots,
                                        const AmendRequest& request);

/// Does any table, of snapshots too, show a compressed cluster?
Task<Result<bool>> has_compressed_clusters(const Metadata& metadata,
                                           std::span<const Snapshot> snapshots);

}  // namespace imgconv::qcow2
