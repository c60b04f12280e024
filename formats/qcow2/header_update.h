// update_header: another header for an existing qcow2 image. What stands in cluster 0 may change
// its place there (extensions, backing file name), and a write of several sectors may reach the
// medium in part; yet a crash at any point leaves the old header or the new one. Loop thread only.
#pragma once

#include "formats/qcow2/header.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Writes cluster 0 as serialize() gives it and flushes. ENOSPC, with nothing done, when it does
/// not fit. Limit: version 2 headers, and those that fill more than half of their cluster, are
/// written at once if more than one sector changes. Arguments must outlive the task.
Task<Result<void>> update_header(File& file, const Header& header);

/// Takes back what the header promises and we do not keep up: autoclear features that we do not
/// know (QCOW2.md 1.3), and bitmaps that somebody else has not kept up to date, which must not come
/// back with the next bitmap. For who is about to change the image.
Task<Result<void>> clear_unknown_features(File& file, Header& header);

}  // namespace imgconv::qcow2
