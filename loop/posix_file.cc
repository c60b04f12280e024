#include "loop/posix_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "loop/interrupted_call.h"
#include "loop/io_buffer.h"
#include "loop/posix_io.h"
#include "loop/posix_zeroing.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

// One write call of zero bytes: enough to make the calls cheap, little enough to stay in the cache.
constexpr uint64_t kZeroChunk = 512 * kKiB;

// One buffered write call. ext4 answers longer ones with page-cache folios so large that finding
// the memory for them takes longer than the copying: 780 MiB in 418 ms by calls of 2 MiB, in 232 ms
// by calls of 512 KiB (tests/bench/README.md).
constexpr size_t kMaxBufferedWrite = 512 * kKiB;

Result<void> from_system_call(int status) {
  if (status < 0) return Error::from_errno(errno);
  return ok();
}

// Room is found ahead for writes of this length or more. ext4 joins shorter ones better itself.
constexpr size_t kMinAllocation = 64 * kKiB;

// What a new image may hold: its first metadata.
constexpr uint64_t kNearlyNothing = kMiB;

/// What statfs calls the file system; 0 if it does not tell.
auto file_system_of(int descriptor) {
  struct statfs file_system {};
  const bool is_known = ::fstatfs(descriptor, &file_system) == 0;
  return is_known ? file_system.f_type : decltype(file_system.f_type){};
}

}  // namespace

Result<std::unique_ptr<PosixFile>> PosixFile::adopt(UniqueFd descriptor, std::string name,
                                                    const PosixFileOptions& options) {
  struct stat status {};
  RETURN_IF_ERROR(from_system_call(::fstat(descriptor.get(), &status)));
  assert(S_ISBLK(status.st_mode) || S_ISREG(status.st_mode));
  return std::unique_ptr<PosixFile>(
      new PosixFile(std::move(descriptor), std::move(name), options, status));
}

PosixFile::PosixFile(UniqueFd descriptor, std::string name, const PosixFileOptions& options,
                     const struct stat& status)
    : descriptor_(std::move(descriptor)),
      name_(std::move(name)),
      options_(options),
      is_block_device_(S_ISBLK(status.st_mode)),
      file_system_(file_system_of(descriptor_.get())),
      held_little_(!is_block_device_ &&
                   static_cast<uint64_t>(status.st_blocks) * kSectorSize <= kNearlyNothing) {
  const int fd = descriptor_.get();
  if (is_block_device_) device_block_size_ = probe_direct_io_alignment(fd, true);
  if (options_.is_direct) {
    const uint64_t alignment = probe_direct_io_alignment(fd, is_block_device_);
    direct_ = std::make_unique<DirectIo>(fd, alignment, /*can_truncate=*/!is_block_device_);
  }
}

Result<size_t> PosixFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  if (direct_ != nullptr) return direct_->read(host_offset, buffer);
  return pread_all(descriptor_.get(), host_offset, buffer, 1);
}

bool PosixFile::read_if_cached(uint64_t host_offset, std::span<std::byte> buffer) {
  if (direct_ != nullptr || !check_file_range(host_offset, buffer.size())) return false;
  const iovec memory{buffer.data(), buffer.size()};
  // tmpfs does not know the flag, and reads at once without it.
  const int flags = file_system_ == TMPFS_MAGIC ? 0 : RWF_NOWAIT;
  const ssize_t count =
      ::preadv2(descriptor_.get(), &memory, 1, static_cast<off_t>(host_offset), flags);
  return count >= 0 && static_cast<size_t>(count) == buffer.size();
}

Result<void> PosixFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  const FileWrite one{host_offset, data};
  return write_all(std::span(&one, 1));
}

Result<void> PosixFile::write_all(std::span<const FileWrite> writes) {
  std::unique_lock turn(write_turn_, std::defer_lock);
  if (is_written_in_turns()) turn.lock();
  for (const FileWrite& one : writes) {
    RETURN_IF_ERROR(direct_ != nullptr ? direct_->write(one.host_offset, one.data)
                                       : write_buffered(one.host_offset, one.data));
  }
  return ok();
}

Result<void> PosixFile::write_buffered(uint64_t host_offset, std::span<const std::byte> data) {
  RETURN_IF_ERROR(check_file_range(host_offset, data.size()));
  if (data.size() >= kMinAllocation) allocate_ahead(host_offset, data.size());
  while (!data.empty()) {
    const std::span<const std::byte> part = data.first(std::min(data.size(), kMaxBufferedWrite));
    RETURN_IF_ERROR(pwrite_all(descriptor_.get(), host_offset, part));
    host_offset += part.size();
    data = data.subspan(part.size());
  }
  return ok();
}

void PosixFile::allocate_ahead(uint64_t host_offset, size_t length) {
  if (!held_little_ || file_system_ != EXT4_SUPER_MAGIC) return;
  // Only a hint: what is wrong, the write finds as well, and the length of the file is its
  // business.
  static_cast<void>(::fallocate(descriptor_.get(), FALLOC_FL_KEEP_SIZE,
                                static_cast<off_t>(host_offset), static_cast<off_t>(length)));
}

Result<void> PosixFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  RETURN_IF_ERROR(check_file_range(host_offset, length));
  if (length == 0) return ok();
  Result<void> zeroed = zero_without_writing(host_offset, length, flags);
  if (zeroed) return sync_if_synchronous();
  if (zeroed.error().code() != ENOTSUP || flags.no_fallback) return zeroed;
  return zero_by_writing(host_offset, length);
}

Result<void> PosixFile::zero_without_writing(uint64_t host_offset, uint64_t length,
                                             ZeroFlags flags) {
  const int fd = descriptor_.get();
  if (!is_block_device_) return zero_regular_file(fd, host_offset, length, flags.may_unmap);

  const uint64_t end = host_offset + length;
  const uint64_t first_block = round_up(host_offset, device_block_size_);
  const uint64_t last_block = round_down(end, device_block_size_);
  if (first_block >= last_block) return Error::from_errno(ENOTSUP);
  RETURN_IF_ERROR(zero_block_device(fd, first_block, last_block - first_block, flags));
  RETURN_IF_ERROR(zero_by_writing(host_offset, first_block - host_offset));
  return zero_by_writing(last_block, end - last_block);
}

Result<void> PosixFile::zero_by_writing(uint64_t host_offset, uint64_t length) {
  if (length == 0) return ok();
  IoBuffer zeros(std::min(length, kZeroChunk));
  std::memset(zeros.data(), 0, zeros.size());
  while (length > 0) {
    const size_t count = std::min<uint64_t>(length, zeros.size());
    RETURN_IF_ERROR(write(host_offset, zeros.span().first(count)));
    host_offset += count;
    length -= count;
  }
  return ok();
}

Result<void> PosixFile::discard(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(check_file_range(host_offset, length));
  const uint64_t first = round_up(host_offset, device_block_size_);
  const uint64_t end = round_down(host_offset + length, device_block_size_);
  if (first >= end) return ok();
  const int fd = descriptor_.get();
  RETURN_IF_ERROR(is_block_device_ ? discard_block_device(fd, first, end - first)
                                   : discard_regular_file(fd, first, end - first));
  return sync_if_synchronous();
}

Result<void> PosixFile::flush() {
  if (options_.ignores_flush) return ok();
  return from_system_call(until_uninterrupted([&] { return ::fdatasync(descriptor_.get()); }));
}

Result<void> PosixFile::sync_if_synchronous() { return options_.is_synchronous ? flush() : ok(); }

Result<void> PosixFile::truncate(uint64_t new_length) {
  RETURN_IF_ERROR(check_file_range(0, new_length));
  if (is_block_device_) {
    ASSIGN_OR_RETURN(const uint64_t device_length, length());
    // A shorter image on a larger device is what one has devices for.
    if (new_length > device_length) return Error(EINVAL, "Cannot grow device files");
    return ok();
  }
  const int status = until_uninterrupted(
      [&] { return ::ftruncate(descriptor_.get(), static_cast<off_t>(new_length)); });
  if (status < 0) return Error::from_errno(errno, "Could not resize file");
  return sync_if_synchronous();
}

Result<void> PosixFile::allocate(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(check_file_range(host_offset, length));
  if (length == 0 || is_block_device_) return ok();
  int error = 0;
  do {
    error = ::posix_fallocate(descriptor_.get(), static_cast<off_t>(host_offset),
                              static_cast<off_t>(length));
  } while (error == EINTR);
  if (error != 0) return Error::from_errno(error, "Could not preallocate new data");
  return sync_if_synchronous();
}

Result<FileExtent> PosixFile::block_status(uint64_t host_offset, uint64_t length_wanted) {
  RETURN_IF_ERROR(check_file_range(host_offset, length_wanted));
  FileExtent extent;
  extent.host_offset = host_offset;
  extent.length = length_wanted;
  ASSIGN_OR_RETURN(const uint64_t end, length());
  if (host_offset >= end) return extent;

  const auto all_data = [&] {
    extent.is_data = true;
    extent.length = std::min(length_wanted, end - host_offset);
    return extent;
  };
  if (is_block_device_) return all_data();

  // lseek moves the position of the descriptor, which nobody uses.
  const int fd = descriptor_.get();
  const off_t data = ::lseek(fd, static_cast<off_t>(host_offset), SEEK_DATA);
  if (data < 0) {
    // ENXIO: no data up to the end. Anything else: the file system cannot tell.
    return errno == ENXIO ? extent : all_data();
  }
  if (static_cast<uint64_t>(data) > host_offset) {
    extent.length = std::min(length_wanted, static_cast<uint64_t>(data) - host_offset);
    return extent;
  }
  const off_t hole = ::lseek(fd, static_cast<off_t>(host_offset), SEEK_HOLE);
  // Equal only if somebody else punched the hole since: what was data is still a safe answer.
  if (hole < 0 || static_cast<uint64_t>(hole) <= host_offset) return all_data();
  extent.is_data = true;
  extent.length = std::min(length_wanted, static_cast<uint64_t>(hole) - host_offset);
  return extent;
}

Result<uint64_t> PosixFile::length() const {
  if (is_block_device_) {
    uint64_t bytes = 0;
    RETURN_IF_ERROR(from_system_call(::ioctl(descriptor_.get(), BLKGETSIZE64, &bytes)));
    return bytes;
  }
  struct stat status {};
  RETURN_IF_ERROR(from_system_call(::fstat(descriptor_.get(), &status)));
  return static_cast<uint64_t>(status.st_size);
}

Result<FileStat> PosixFile::stat() {
  struct stat status {};
  RETURN_IF_ERROR(from_system_call(::fstat(descriptor_.get(), &status)));
  FileStat result;
  ASSIGN_OR_RETURN(result.length, length());
  result.allocated = static_cast<uint64_t>(status.st_blocks) * kSectorSize;
  result.is_block_device = is_block_device_;
  result.request_alignment = request_alignment();
  result.extends_with_zeros = !is_block_device_;
  result.ignores_flush = options_.ignores_flush;
  return result;
}

}  // namespace imgconv
