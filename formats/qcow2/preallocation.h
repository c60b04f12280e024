// Preallocated metadata: images whose L2 tables show clusters that the file does not hold (yet).
// QEMU then asks the file which of the data are holes; these helpers tell when and do it. Loop
// thread only.
#pragma once

#include "formats/extent.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/refcount.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// QEMU's rule: the image uses clearly more clusters than its file has space for.
Task<Result<bool>> has_preallocated_metadata(const Header& header, File& file,
                                             Refcounts& refcounts);

/// Cuts data extents where their file's holes begin and end, and marks those in holes. Failures of
/// the file to tell leave an extent as it is. What is behind the end of the file is a hole, or, for
/// who `refuses_truncated` images, data that will not be found. Blocking calls: for a pool thread.
ExtentList split_at_file_holes(const ExtentList& extents, bool refuses_truncated);

}  // namespace imgconv::qcow2
