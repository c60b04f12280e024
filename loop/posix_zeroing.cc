#include "loop/posix_zeroing.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>

#include "loop/interrupted_call.h"
#include "loop/try.h"

namespace imgconv {
namespace {

/// ENOTSUP for everything by which kernels and file systems say that they cannot do this at all.
Result<void> from_system_call(int status) {
  if (status == 0) return ok();
  switch (errno) {
    case ENODEV:
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOTTY:
    // Some file systems answer an unknown mode with it.
    case EINVAL:
      return Error::from_errno(ENOTSUP);
    default:
      return Error::from_errno(errno);
  }
}

Result<void> allocate_range(int descriptor, int mode, uint64_t host_offset, uint64_t length) {
  return from_system_call(until_uninterrupted([&] {
    return ::fallocate(descriptor, mode, static_cast<off_t>(host_offset),
                       static_cast<off_t>(length));
  }));
}

Result<void> punch_hole(int descriptor, uint64_t host_offset, uint64_t length) {
  return allocate_range(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, host_offset,
                        length);
}

bool is_unsupported(const Result<void>& result) {
  return !result && result.error().code() == ENOTSUP;
}

/// Makes the file at least `end` long.
Result<void> extend_to(int descriptor, uint64_t end) {
  struct stat status {};
  if (::fstat(descriptor, &status) < 0) return Error::from_errno(errno);
  if (static_cast<uint64_t>(status.st_size) >= end) return ok();
  // Not ftruncate: another thread may have written behind `end` since, and would lose its data.
  return allocate_range(descriptor, 0, end - 1, 1);
}

}  // namespace

Result<void> zero_regular_file(int descriptor, uint64_t host_offset, uint64_t length,
                               bool may_unmap) {
  if (may_unmap) {
    Result<void> unmapped = extend_to(descriptor, host_offset + length);
    if (unmapped) unmapped = punch_hole(descriptor, host_offset, length);
    if (!is_unsupported(unmapped)) return unmapped;
  }
  Result<void> zeroed = allocate_range(descriptor, FALLOC_FL_ZERO_RANGE, host_offset, length);
  if (!is_unsupported(zeroed)) return zeroed;
  // tmpfs knows no zero range, but holes and allocation.
  RETURN_IF_ERROR(punch_hole(descriptor, host_offset, length));
  return allocate_range(descriptor, 0, host_offset, length);
}

Result<void> zero_block_device(int descriptor, uint64_t host_offset, uint64_t length,
                               ZeroFlags flags) {
  // The only form that never writes zeros one by one inside the kernel.
  if (flags.may_unmap) {
    Result<void> unmapped = punch_hole(descriptor, host_offset, length);
    if (!is_unsupported(unmapped)) return unmapped;
  }
  if (flags.no_fallback) return Error::from_errno(ENOTSUP);
  std::array<uint64_t, 2> range{host_offset, length};
  return from_system_call(::ioctl(descriptor, BLKZEROOUT, range.data()));
}

Result<void> discard_regular_file(int descriptor, uint64_t host_offset, uint64_t length) {
  return punch_hole(descriptor, host_offset, length);
}

Result<void> discard_block_device(int descriptor, uint64_t host_offset, uint64_t length) {
  std::array<uint64_t, 2> range{host_offset, length};
  return from_system_call(::ioctl(descriptor, BLKDISCARD, range.data()));
}

}  // namespace imgconv
