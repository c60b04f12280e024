// --verify: reads a written target back, from the device where that can be had, and compares it
// with what a CopyWitness saw. Zeros are compared by the target's map and not read. Loop thread
// only.
#pragma once

#include <vector>

#include "engine/copy_witness.h"
#include "engine/image_chain.h"
#include "engine/messages.h"
#include "engine/open_image.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

/// `target` is still open, everything was flushed; `request` opens it once more, beside it. "NAME:
/// verification failed at byte N: ...". The arguments must outlive the task.
Task<Result<void>> verify_target(Storage& storage, ImageChain& target, const ImageRequest& request,
                                 const std::vector<ContentRecord>& records, Messages& messages);

}  // namespace imgconv
