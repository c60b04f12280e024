// Reads what extents describe, with blocking calls: the body of a copy job on a pool thread.
// Driver-independent, since an extent says where its bytes are and how they are coded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/extent.h"
#include "loop/result.h"

namespace imgconv {

/// What the bytes of an image are that its file is too short for.
enum class FileEnd : uint8_t {
  kZeros,  ///< Zeros, as QEMU reads them (QCOW2.md 4.1).
  /// An error, since the file was cut off; but the last cluster may be there in part, and so may
  /// the last sector of a file without clusters.
  kError,
};

/// Fills `buffer` with the guest bytes of `extents` (adjacent, their lengths sum up to the
/// buffer's). Unallocated and zero extents become zeros. Host ranges that lie together are read
/// together, compressed ones included.
/// The error names no offset: the caller knows the guest offset it asked for.
/// Requires: a compressed extent lies inside its cluster, and its `host_length` is bounded by the
/// driver (qcow2: twice the cluster size), since that much memory is taken.
Result<void> read_extents(std::span<const Extent> extents, std::span<std::byte> buffer,
                          FileEnd file_end = FileEnd::kZeros);

/// After a read that was short: whether a file of `file_length` bytes may lack bytes of a kData
/// extent (FileEnd::kError). EIO with a hint that says where the file ends.
Result<void> check_file_end(const Extent& extent, uint64_t file_length);

}  // namespace imgconv
