// Whole transfers on a descriptor: pread and pwrite until everything is done, EINTR and short
// transfers included; and what becomes known only at the end of them. The lowest brick of
// PosixFile; knows nothing of what the descriptor is. Any thread; errors carry only the text of
// errno.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "loop/result.h"

namespace imgconv {

/// Bytes read, fewer than asked only at the end of the file. A part that is no multiple of
/// `alignment` can only be the end, and is not continued: O_DIRECT would refuse the odd offset.
Result<size_t> pread_all(int descriptor, uint64_t host_offset, std::span<std::byte> buffer,
                         uint64_t alignment);
Result<void> pwrite_all(int descriptor, uint64_t host_offset, std::span<const std::byte> data);

/// What close() would say, without closing: a server or a quota may refuse only then what it took
/// before, and each descriptor is told of its own writes.
Result<void> check_closing(int descriptor);

/// EINVAL if the range does not fit in the kernel's signed offsets.
Result<void> check_file_range(uint64_t host_offset, uint64_t length);

}  // namespace imgconv
