// Reads what extents describe, with blocking calls: the body of a copy job on a pool thread.
// Driver-independent, since an extent says where its bytes are and how they are coded.
#pragma once

#include <cstddef>
#include <span>

#include "formats/extent.h"
#include "loop/result.h"

namespace imgconv {

/// Fills `buffer` with the guest bytes of `extents` (adjacent, their lengths sum up to the
/// buffer's). Unallocated and zero extents become zeros. Host ranges that lie together are read
/// together, compressed ones included. Reading behind the end of a file gives zeros (QCOW2.md 4.1).
/// The error names no offset: the caller knows the guest offset it asked for.
/// Requires: a compressed extent lies inside its cluster, and its `host_length` is bounded by the
/// driver (qcow2: twice the cluster size), since that much memory is taken.
Result<void> read_extents(std::span<const Extent> extents, std::span<std::byte> buffer);

}  // namespace imgconv
