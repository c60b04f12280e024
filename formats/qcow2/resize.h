// Resizing an open image: a longer or shorter disk (QCOW2.md 12).
//
// The header's size is written last when the disk grows and when it shrinks, so that whatever a
// crash leaves is the old size with an old or an empty tail. Loop thread only.
#pragma once

#include "formats/image.h"
#include "formats/qcow2/bitmaps.h"
#include "formats/qcow2/writer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// "The new size must be a multiple of 512", "Can't resize a v2 image which has snapshots", "Failed
/// to grow the L1 table: ...". Updates the writer's header. `data_file` is null without an external
/// data file. Bitmaps are refused as Bitmaps::prepare_resize() tells, and stored when all is done.
/// Requires: nothing is reserved.
Task<Result<void>> resize(Writer& writer, File* data_file, Bitmaps& bitmaps, ResizeRequest request);

}  // namespace imgconv::qcow2
