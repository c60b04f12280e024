// Taking, applying and deleting internal snapshots of an open image (QCOW2.md 7).
//
// Refcounts are raised on the disk before a table refers to more, and lowered after it refers to
// less; the header's pointers change in one write. A crash therefore leaves leaks, and copied bits
// that disagree with leaked refcounts, but no cluster that is used more often than it is counted.
// `snapshots` is the image's list and is kept up to date. What the writer has in memory must have
// been flushed; it is flushed again at the end. Loop thread only.
#pragma once

#include <string>
#include <vector>

#include "formats/qcow2/snapshot.h"
#include "formats/qcow2/writer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// ENOTSUP with an external data file, EFBIG beyond the limits of the table, EINVAL when a refcount
/// is too narrow: then nothing has changed.
Task<Result<void>> create_snapshot(Writer& writer, std::vector<Snapshot>& snapshots,
                                   SnapshotInfo info);

/// By id, then by name. The disk gets the size it had. Errors are those of "Failed to load
/// snapshot".
Task<Result<void>> apply_snapshot(Writer& writer, const std::vector<Snapshot>& snapshots,
                                  std::string id_or_name);

/// The first one with this name.
Task<Result<void>> delete_snapshot(Writer& writer, std::vector<Snapshot>& snapshots,
                                   std::string name);

}  // namespace imgconv::qcow2
