#include "loop/direct_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "loop/interrupted_call.h"
#include "loop/io_buffer.h"
#include "loop/posix_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

// Large enough to keep a disk busy, small enough for every thread to have one.
constexpr uint64_t kMaxBounce = kMiB;

// What alignments disks have; tried in this order when the kernel does not tell.
constexpr uint64_t kMinAlignment = kSectorSize;
constexpr uint64_t kMaxAlignment = 4096;

/// One chunk of an unaligned request: the blocks it touches, and the part of them that is meant.
struct Chunk {
  uint64_t host_offset;
  size_t length;
  size_t skip;
  size_t wanted;
};

Chunk first_chunk(uint64_t host_offset, size_t length, uint64_t alignment) {
  const uint64_t start = round_down(host_offset, alignment);
  const uint64_t skip = host_offset - start;
  const uint64_t wanted = std::min<uint64_t>(length, kMaxBounce - skip);
  return {start, round_up(skip + wanted, alignment), skip, wanted};
}

}  // namespace

DirectIo::DirectIo(int descriptor, uint64_t alignment, bool can_truncate)
    : descriptor_(descriptor), alignment_(alignment), can_truncate_(can_truncate) {}

bool DirectIo::is_aligned_request(uint64_t host_offset, std::span<const std::byte> memory) const {
  return is_aligned(host_offset, alignment_) && is_aligned(memory.size(), alignment_) &&
         is_aligned(reinterpret_cast<uintptr_t>(memory.data()), alignment_);
}

Result<size_t> DirectIo::read(uint64_t host_offset, std::span<std::byte> buffer) {
  if (is_aligned_request(host_offset, buffer)) {
    return pread_all(descriptor_, host_offset, buffer, alignment_);
  }
  return read_bounced(host_offset, buffer);
}

Result<size_t> DirectIo::read_bounced(uint64_t host_offset, std::span<std::byte> buffer) {
  RETURN_IF_ERROR(check_file_range(host_offset, buffer.size()));
  size_t done = 0;
  while (done < buffer.size()) {
    const Chunk chunk = first_chunk(host_offset + done, buffer.size() - done, alignment_);
    IoBuffer bounce(chunk.length);
    ASSIGN_OR_RETURN(const size_t count,
                     pread_all(descriptor_, chunk.host_offset, bounce.span(), alignment_));
    const size_t usable = std::min(count - std::min(count, chunk.skip), chunk.wanted);
    std::memcpy(buffer.data() + done, bounce.data() + chunk.skip, usable);
    done += usable;
    if (usable < chunk.wanted) break;
  }
  return done;
}

Result<void> DirectIo::write(uint64_t host_offset, std::span<const std::byte> data) {
  if (is_aligned_request(host_offset, data)) {
    const std::shared_lock lock(write_mutex_);
    return pwrite_all(descriptor_, host_offset, data);
  }
  const std::lock_guard lock(write_mutex_);
  return write_bounced(host_offset, data);
}

Result<void> DirectIo::load_block(uint64_t host_offset, std::span<std::byte> block) {
  ASSIGN_OR_RETURN(const size_t count, pread_all(descriptor_, host_offset, block, alignment_));
  std::memset(block.data() + count, 0, block.size() - count);
  return ok();
}

Result<void> DirectIo::write_bounced(uint64_t host_offset, std::span<const std::byte> data) {
  RETURN_IF_ERROR(check_file_range(host_offset, data.size()));
  struct stat before {};
  if (::fstat(descriptor_, &before) < 0) return Error::from_errno(errno);
  uint64_t written_end = 0;
  size_t done = 0;
  while (done < data.size()) {
    const Chunk chunk = first_chunk(host_offset + done, data.size() - done, alignment_);
    IoBuffer bounce(chunk.length);
    const std::span<std::byte> blocks = bounce.span();
    const size_t last_block = chunk.length - alignment_;
    if (chunk.skip != 0) {
      RETURN_IF_ERROR(load_block(chunk.host_offset, blocks.first(alignment_)));
    }
    const bool tail_is_partial = chunk.skip + chunk.wanted != chunk.length;
    if (tail_is_partial && (last_block != 0 || chunk.skip == 0)) {
      RETURN_IF_ERROR(load_block(chunk.host_offset + last_block, blocks.last(alignment_)));
    }
    std::memcpy(bounce.data() + chunk.skip, data.data() + done, chunk.wanted);
    RETURN_IF_ERROR(pwrite_all(descriptor_, chunk.host_offset, blocks));
    done += chunk.wanted;
    written_end = chunk.host_offset + chunk.length;
  }
  const uint64_t length =
      std::max(static_cast<uint64_t>(before.st_size), host_offset + data.size());
  if (can_truncate_ && written_end > length) {
    const int cut =
        until_uninterrupted([&] { return ::ftruncate(descriptor_, static_cast<off_t>(length)); });
    if (cut < 0) return Error::from_errno(errno);
  }
  return ok();
}

uint64_t probe_direct_io_alignment(int descriptor, bool is_block_device) {
  if (is_block_device) {
    int logical_block_size = 0;
    if (::ioctl(descriptor, BLKSSZGET, &logical_block_size) == 0 && logical_block_size > 0) {
      return std::max<uint64_t>(static_cast<uint64_t>(logical_block_size), kMinAlignment);
    }
  }
#ifdef STATX_DIOALIGN
  struct statx status {};
  if (::statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0 && status.stx_dio_offset_align != 0) {
    const uint32_t larger = std::max(status.stx_dio_offset_align, status.stx_dio_mem_align);
    return std::max<uint64_t>(larger, kMinAlignment);
  }
#endif
  // Linux before 6.1: ask by reading. Only blocks that exist are checked, hence the length.
  struct stat file {};
  if (::fstat(descriptor, &file) == 0 && static_cast<uint64_t>(file.st_size) >= kMaxAlignment) {
    IoBuffer buffer(kMaxAlignment);
    for (uint64_t alignment = kMinAlignment; alignment < kMaxAlignment; alignment *= 2) {
      if (pread_all(descriptor, 0, buffer.span().first(alignment), 1)) return alignment;
    }
  }
  return kMaxAlignment;
}

}  // namespace imgconv
