// Copy offload: the kernel moves the bytes of extents from file to file (-C), or lets both files
// share them (reflink). On a pool thread, like the fused step it is a part of.
#pragma once

#include <cstdint>
#include <span>

#include "formats/extent.h"
#include "loop/blocking_file.h"

namespace imgconv {

/// Copies plain data extents to host_base + guest offset of `target`. False when some of it is not
/// plain data or the kernel does not want to: the caller then copies the whole range itself.
bool copy_extents(std::span<const Extent> extents, BlockingFile& target, uint64_t host_base);

enum class CloneOutcome : uint8_t {
  kCloned,
  kNotThese,  ///< Not aligned, not plain data: the caller copies them.
  kNever,     ///< The file system cannot, or the files are on two of them.
};

/// Whether it is worth trying: aligned, plain data.
bool can_be_cloned(std::span<const Extent> extents, uint64_t host_base);
/// As copy_extents(), by FICLONERANGE.
CloneOutcome clone_extents(std::span<const Extent> extents, BlockingFile& target,
                           uint64_t host_base);

}  // namespace imgconv
