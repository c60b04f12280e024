// Copy offload (-C): the kernel moves the bytes of extents from file to file, by reference where
// the file system can. On a pool thread, like the fused step it is a part of.
#pragma once

#include <cstdint>
#include <span>

#include "formats/extent.h"
#include "loop/blocking_file.h"

namespace imgconv {

/// Copies plain data extents to host_base + guest offset of `target`. False when some of it is not
/// plain data or the kernel does not want to: the caller then copies the whole range itself.
bool copy_extents(std::span<const Extent> extents, BlockingFile& target, uint64_t host_base);

}  // namespace imgconv
