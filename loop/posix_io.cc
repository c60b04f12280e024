#include "loop/posix_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {

Result<void> check_file_range(uint64_t host_offset, uint64_t length) {
  constexpr uint64_t kMaxOffset = std::numeric_limits<off_t>::max();
  const std::optional<uint64_t> end = checked_add(host_offset, length);
  if (!end || *end > kMaxOffset) return Error::from_errno(EINVAL);
  return ok();
}

Result<size_t> pread_all(int descriptor, uint64_t host_offset, std::span<std::byte> buffer,
                         uint64_t alignment) {
  RETURN_IF_ERROR(check_file_range(host_offset, buffer.size()));
  size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t count = ::pread(descriptor, buffer.data() + done, buffer.size() - done,
                                  static_cast<off_t>(host_offset + done));
    if (count < 0) {
      if (errno == EINTR) continue;
      return Error::from_errno(errno);
    }
    done += static_cast<size_t>(count);
    if (count == 0 || !is_aligned(static_cast<uint64_t>(count), alignment)) break;
  }
  return done;
}

Result<void> pwrite_all(int descriptor, uint64_t host_offset, std::span<const std::byte> data) {
  RETURN_IF_ERROR(check_file_range(host_offset, data.size()));
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t count = ::pwrite(descriptor, data.data() + done, data.size() - done,
                                   static_cast<off_t>(host_offset + done));
    if (count < 0) {
      if (errno == EINTR) continue;
      return Error::from_errno(errno);
    }
    // Never seen on a file, but without this a driver that accepts nothing would spin forever.
    if (count == 0) return Error::from_errno(ENOSPC);
    done += static_cast<size_t>(count);
  }
  return ok();
}

Result<void> check_closing(int descriptor) {
  const int copy = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  // Without a copy there is nothing to learn; the descriptor itself is still good.
  if (copy >= 0 && ::close(copy) < 0 && errno != EINTR) return Error::from_errno(errno);
  return ok();
}

}  // namespace imgconv
