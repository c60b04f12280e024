// resize: a new size for the disk of an open image. Loop thread only.
#pragma once

#include <cstdint>

#include "engine/image_chain.h"
#include "formats/preallocation_mode.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// As the user gives it: absolute, or relative to the size the disk has.
struct SizeChange {
  enum class Kind : uint8_t { kAbsolute, kGrow, kShrink } kind = Kind::kAbsolute;
  uint64_t bytes = 0;
};

/// "New image size must be positive". Sizes wrap around in 64 bits as qemu-img's do.
Result<uint64_t> apply_size_change(uint64_t current_size, const SizeChange& change);

/// Resizes the top image of the chain, which is open for writing. The chain must outlive the task.
Task<Result<void>> resize_image(ImageChain& chain, uint64_t size, Preallocation preallocation);

}  // namespace imgconv
