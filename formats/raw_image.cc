#include "formats/raw_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <limits>
#include <utility>

#include "loop/interrupt.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Extents per map(). The first is asked for through the pool, since the file system may have to
/// read from the disk; the others are asked for right here, as a hop per hole would cost more than
/// the copy of a fragmented file's pieces. At a microsecond each the loop is not held up.
constexpr size_t kMaxExtents = 256;

/// What a new file gets written at its start (CLI.md section 4).
constexpr uint64_t kFirstBlock = 4096;
constexpr uint64_t kZeroesLength = 64 * kKiB;

void append_merged(ExtentList& extents, const Extent& next) {
  if (!extents.empty() && extents.back().kind == next.kind) {
    extents.back().length += next.length;
  } else {
    extents.push_back(next);
  }
}

Result<void> check_device(const FileStat& stat, uint64_t length, Preallocation mode) {
  if (mode != Preallocation::kOff) {
    return Error(ENOTSUP,
                 fmt::format("Preallocation mode '{}' unsupported for this non-regular file",
                             preallocation_name(mode)));
  }
  if (stat.length != length) return Error(ENOTSUP, "Cannot resize device files");
  return ok();
}

Task<Result<void>> resize_file(File& file, uint64_t length, Preallocation mode) {
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  if (stat.is_block_device) co_return check_device(stat, length, mode);
  if (mode == Preallocation::kMetadata) {
    co_return Error(ENOTSUP, "Unsupported preallocation mode: metadata");
  }
  if (mode == Preallocation::kFalloc) {
    Result<void> allocated = co_await file.allocate(stat.length, length - stat.length);
    if (allocated) co_return ok();
    co_return std::move(allocated).error().within("Could not preallocate data for the new file");
  }
  CO_RETURN_IF_ERROR(co_await file.truncate(length));
  if (mode == Preallocation::kFull) {
    CO_RETURN_IF_ERROR(co_await write_zeros_out(file, stat.length, length));
  } else if (stat.length == 0 && length > 0) {
    CO_RETURN_IF_ERROR(co_await write_first_block(file, length));
  }
  co_return ok();
}

}  // namespace

Task<Result<void>> write_zeros_out(File& file, uint64_t begin, uint64_t end) {
  const std::vector<std::byte> zeros(kZeroesLength);
  for (uint64_t offset = begin; offset < end; offset += zeros.size()) {
    if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
    const uint64_t step = std::min<uint64_t>(end - offset, zeros.size());
    const Result<void> written = co_await file.write(offset, std::span(zeros).first(step));
    if (!written) {
      co_return Error(written.error()).within("Could not write zeros for preallocation");
    }
  }
  Result<void> flushed = co_await file.flush();
  if (!flushed) co_return std::move(flushed).error().within("Could not flush file to disk");
  co_return ok();
}

Task<Result<void>> write_first_block(File& file, uint64_t length) {
  const std::vector<std::byte> zeros(length < kFirstBlock ? std::min(length, kSectorSize)
                                                          : kFirstBlock);
  CO_RETURN_IF_ERROR(co_await file.write(0, zeros));
  co_return ok();
}

Result<RawWindow> find_window(const FileStat& stat, uint64_t offset, std::optional<uint64_t> size) {
  if (offset > stat.length) {
    return Error(EINVAL,
                 fmt::format("Offset ({}) cannot be greater than size of the containing file ({})",
                             offset, round_up(stat.length, kSectorSize)));
  }
  const uint64_t available = stat.length - offset;
  if (!size) return RawWindow{offset, available, false};
  if (*size > available) {
    return Error(EINVAL, fmt::format("The sum of offset ({}) and size ({}) has to be smaller or "
                                     "equal to the  actual size of the containing file ({})",
                                     offset, *size, round_up(stat.length, kSectorSize)));
  }
  if (!is_aligned(*size, kSectorSize)) {
    return Error(EINVAL, fmt::format("Specified size is not multiple of {}", kSectorSize));
  }
  return RawWindow{offset, *size, true};
}

RawImage::RawImage(std::unique_ptr<File> file, RawWindow window, bool extends_with_zeros)
    : file_(std::move(file)), window_(window), extends_with_zeros_(extends_with_zeros) {
  info_.format = "raw";
  info_.virtual_size = round_up(window_.length, kSectorSize);
}

Task<Result<ExtentList>> RawImage::map(uint64_t guest_offset, uint64_t length) {
  assert(length > 0 && guest_offset + length <= info_.virtual_size);
  const uint64_t end = guest_offset + length;
  const uint64_t end_in_file = std::min(end, window_.length);
  ExtentList extents;
  uint64_t position = guest_offset;
  while (position < end && extents.size() < kMaxExtents) {
    Extent extent;
    extent.guest_offset = position;
    extent.length = end - position;
    extent.kind = ExtentKind::kZero;
    extent.has_host_offset = true;
    extent.host_offset = window_.host_offset + position;
    extent.file = file_.get();
    if (position < end_in_file) {
      const uint64_t asked = end_in_file - position;
      FileExtent status;
      if (extents.empty()) {
        CO_ASSIGN_OR_RETURN(status, co_await file_->block_status(extent.host_offset, asked));
      } else {
        CO_ASSIGN_OR_RETURN(status, file_->blocking().block_status(extent.host_offset, asked));
      }
      // Nothing more to tell: the file became shorter than it was.
      if (status.length == 0) status = {extent.host_offset, asked, false};
      extent.length = std::min(status.length, asked);
      if (status.is_data) extent.kind = ExtentKind::kData;
      if (status.is_data && position + extent.length == window_.length) {
        // Past O_DIRECT nothing can be read but whole blocks: the last one counts as data.
        CO_ASSIGN_OR_RETURN(const FileStat stat, file_->stat());
        const uint64_t block_end = round_up(window_.length, uint64_t{stat.request_alignment});
        extent.length = std::min(end, block_end) - position;
      }
    }
    append_merged(extents, extent);
    position += extent.length;
  }
  co_return extents;
}

Task<Result<void>> RawImage::load_snapshot(const std::string&) {
  co_return Error(ENOTSUP,
                  "Block format 'raw' used by device '' does not support temporarily loading "
                  "internal snapshots");
}

Task<Result<CheckReport>> RawImage::check(const CheckSink&) {
  co_return Error(ENOTSUP, "This image format does not support checks");
}

Task<Result<std::vector<HostRun>>> RawImage::reserve(uint64_t guest_offset, uint64_t length) {
  assert(guest_offset + length <= info_.virtual_size);
  std::vector<HostRun> runs;
  runs.push_back({guest_offset, window_.host_offset + guest_offset, length, file_.get()});
  co_return runs;
}

Task<Result<void>> RawImage::link(uint64_t, uint64_t) { co_return ok(); }

Task<Result<void>> RawImage::write_zeroes(uint64_t guest_offset, uint64_t length, bool may_unmap) {
  assert(guest_offset + length <= info_.virtual_size);
  const ZeroFlags flags{may_unmap, false};
  CO_RETURN_IF_ERROR(
      co_await file_->write_zeroes(window_.host_offset + guest_offset, length, flags));
  co_return ok();
}

Task<Result<HostRun>> RawImage::reserve_compressed(uint64_t, uint64_t) {
  co_return Error(ENOTSUP, "Compression not supported for this file format");
}

void RawImage::set_backing_reader(BackingReader) {}

Task<Result<void>> RawImage::resize(const ResizeRequest& request) {
  if (window_.is_fixed) co_return Error(ENOTSUP, "Cannot resize fixed-size raw disks");
  const std::optional<uint64_t> end = checked_add(window_.host_offset, request.virtual_size);
  if (!end || *end > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    co_return Error(EINVAL, "Disk size too large for the chosen offset");
  }
  CO_RETURN_IF_ERROR(co_await resize_file(*file_, *end, request.preallocation));
  window_.length = request.virtual_size;
  info_.virtual_size = round_up(window_.length, kSectorSize);
  co_return ok();
}

Task<Result<void>> RawImage::flush(bool sync) {
  if (sync) CO_RETURN_IF_ERROR(co_await file_->flush());
  co_return ok();
}

Task<Result<void>> RawImage::close() { co_return ok(); }

}  // namespace imgconv
