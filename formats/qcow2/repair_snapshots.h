// Repairs the snapshot table: entries that say too little or too much, and tables beyond the limits
// (QCOW2.md 7 and 13, step 1). Reading keeps what is sound and says what is dropped; writing puts a
// new table beside the old one and switches. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "formats/qcow2/check_context.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

struct SalvagedSnapshots {
  /// What `check` goes on with, and what is to be written; its size is that of the old table, as
  /// far as it was read.
  SnapshotTable table;
  /// What writing it repairs.
  uint64_t corruptions = 0;
  /// Of these, entries at the end that are beyond the limits. Without others it is enough not to
  /// count them any more, and the table stays where it is.
  uint64_t overhanging = 0;
};

/// Requires: context.header's pointer to the table was checked, but for the number of entries.
Task<Result<SalvagedSnapshots>> salvage_snapshots(CheckContext& context);

/// Makes the header count only the entries that were kept.
Task<Result<void>> drop_overhanging_snapshots(CheckContext& context, Header& header,
                                              const SalvagedSnapshots& snapshots);

/// Requires: the refcounts are right. `frees_old`: the clusters of the old table are counted. A
/// crash leaves either table and at most leaks.
Task<Result<void>> replace_snapshot_table(CheckContext& context, Header& header,
                                          const SalvagedSnapshots& snapshots, bool frees_old);

}  // namespace imgconv::qcow2
