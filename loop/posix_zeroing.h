// The ways to zero or give back a range of a regular file or a block device without writing it.
//
// Each function tries what the kernel offers for that kind of file, cheapest first, and answers
// ENOTSUP when nothing works; writing zero bytes is the caller's last resort. Borrow the
// descriptor. Any thread.
#pragma once

#include <cstdint>

#include "loop/blocking_file.h"
#include "loop/result.h"

namespace imgconv {

/// Extends the file if the range ends behind it. Never makes it shorter, even while other threads
/// extend it.
Result<void> zero_regular_file(int descriptor, uint64_t host_offset, uint64_t length,
                               bool may_unmap);
/// Requires: the range is aligned to the device's logical blocks.
Result<void> zero_block_device(int descriptor, uint64_t host_offset, uint64_t length,
                               ZeroFlags flags);
Result<void> discard_regular_file(int descriptor, uint64_t host_offset, uint64_t length);
/// Requires: as zero_block_device().
Result<void> discard_block_device(int descriptor, uint64_t host_offset, uint64_t length);

}  // namespace imgconv
