// Repairs the directory of persistent bitmaps (QCOW2.md 9): a bitmap whose bits are not where its
// table says, or whose table says nothing valid, is removed. What it recorded is lost; an empty one
// in its place would say that nothing was written. Loop thread only.
#pragma once

#include <cstdint>

#include "formats/qcow2/check_context.h"
#include "formats/qcow2/header.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Returns how many there were; what they had is leaked. A crash leaves all bitmaps, the sound
/// ones, or none. Requires: context.measure_file(); `header` is the context's.
Task<Result<uint64_t>> remove_damaged_bitmaps(CheckContext& context, Header& header);

}  // namespace imgconv::qcow2
