// --untrusted: an image from a stranger is one file of the format that the caller names, and asks
// for no more than its ImageLimits allow. What needs no driver is decided here. Loop thread only.
#pragma once

#include "engine/image_chain.h"
#include "formats/image_limits.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

struct ImageRequest;

/// A plain name and a format. Else EINVAL.
Result<void> check_untrusted_request(const ImageRequest& request);

/// Walks over the map of the disk, up to the limits on its size, its pieces and its data. The chain
/// must outlive the task.
Task<Result<void>> check_untrusted_disk(ImageChain& chain, ImageLimits limits);

}  // namespace imgconv
