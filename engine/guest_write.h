// guest_write: bytes from memory into an open image, for commands that change an image in place.
// The copy of a convert has its own way (worker.h). Calls for the same bytes come one after the
// other. Loop thread only; errors are bare, the caller knows what it was writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/image.h"
#include "loop/executor.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// The arguments must outlive the task, here and below.
Task<Result<void>> write_guest(Image& image, uint64_t guest_offset,
                               std::span<const std::byte> bytes);

/// The same as compressed clusters; what does not become smaller is stored as it is. Requires:
/// whole clusters, or up to the end of the disk; the image can compress (Image::compression()).
Task<Result<void>> write_guest_compressed(Image& image, Executor& executor, uint64_t guest_offset,
                                          std::span<const std::byte> bytes);

}  // namespace imgconv
