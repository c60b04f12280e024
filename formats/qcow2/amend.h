// Amending an open image: another version, refcount width, size, data file, lazy refcounts
// (QCOW2.md 12). What must be refused is refused before anything changes, as far as the header
// tells. Loop thread only.
#pragma once

#include <vector>

#include "formats/image.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/snapshot.h"
#include "formats/qcow2/writer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// `data_file` as for resize(). `request` must outlive the task. Requires: nothing is
/// reserved, what the writer has in memory was flushed.
Task<Result<void>> amend(Writer& writer, File* data_file, Bitmaps& bitmaps,
                         std::vector<Snapshot>& snapshots, const AmendRequest& request);

}  // namespace imgconv::qcow2
