// The part of `check` that counts what persistent bitmaps use: directory, tables and data
// (QCOW2.md 9). Loop thread only.
#pragma once

#include <span>

#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/check_context.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// More tables than are read here, which are many times those of any real image.
bool has_too_large_tables(std::span<const BitmapInfo> bitmaps);

/// A damaged directory ends the check with EINVAL and no text, as in QEMU.
Task<Result<void>> count_bitmaps(CheckContext& context);

}  // namespace imgconv::qcow2
