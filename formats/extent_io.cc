#include "formats/extent_io.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "formats/codec.h"
#include "loop/file.h"
#include "loop/per_thread.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Compressed bytes read in one step, unless a single stream is longer.
constexpr uint64_t kMaxCompressedRead = kMiB;
/// Unwanted bytes between two streams that are cheaper to read than to seek over: about what the
/// page cache delivers in the time of one system call.
constexpr uint64_t kMaxGap = 32 * kKiB;

/// Memory of one thread, kept between calls so that a copy allocates nothing per chunk.
class Scratch {
 public:
  /// At least `size` bytes, of whatever content.
  std::span<std::byte> take(uint64_t size) {
    if (size > capacity_) {
      bytes_ = std::make_unique_for_overwrite<std::byte[]>(size);
      capacity_ = size;
    }
    return {bytes_.get(), size};
  }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  uint64_t capacity_ = 0;
};

struct HostRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t length() const { return end - begin; }
};

/// Fills the buffer; what is behind the end of the file is zeros. Returns the bytes the file had.
Result<size_t> read_with_zero_tail(File& file, uint64_t host_offset, std::span<std::byte> buffer) {
  ASSIGN_OR_RETURN(const size_t got, file.blocking().read(host_offset, buffer));
  std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(got), buffer.end(), std::byte{0});
  return got;
}

Error truncated(uint64_t file_length, uint64_t host_offset) {
  return Error::from_errno(EIO).with_hint(
      fmt::format("The image is truncated: its file ends at byte {}, data is expected at byte {}.",
                  file_length, host_offset));
}

bool is_same_cluster(const Extent& a, const Extent& b) {
  return a.kind == b.kind && a.file == b.file && a.host_offset == b.host_offset &&
         a.codec == b.codec && a.cluster_size == b.cluster_size;
}

/// The extents at the front that one read of the host file serves.
size_t data_run_length(std::span<const Extent> extents) {
  size_t count = 1;
  while (count < extents.size()) {
    const Extent& last = extents[count - 1];
    const Extent& next = extents[count];
    if (next.kind != ExtentKind::kData || next.file != last.file ||
        next.host_offset != last.host_offset + last.length) {
      break;
    }
    ++count;
  }
  return count;
}

/// `range` widened by the streams that follow, in whatever order a parallel writer left them, as
/// long as what is read stays small and mostly wanted.
size_t compressed_run_length(std::span<const Extent> extents, HostRange& range) {
  size_t count = 1;
  while (count < extents.size()) {
    const Extent& next = extents[count];
    if (next.kind != ExtentKind::kCompressed || next.file != extents[0].file) break;
    const HostRange wider{std::min(range.begin, next.host_offset),
                          std::max(range.end, next.host_offset + next.host_length)};
    if (wider.length() > kMaxCompressedRead ||
        wider.length() > range.length() + next.host_length + kMaxGap) {
      break;
    }
    range = wider;
    ++count;
  }
  return count;
}

/// Decodes the extents whose streams lie in `streams`, which begins at `host_begin`. A stream that
/// goes on behind the end of `streams` has only what is there.
Result<void> decode_run(std::span<const Extent> extents, std::span<const std::byte> streams,
                        uint64_t host_begin, std::span<std::byte> buffer) {
  static const PerThread<Scratch> cluster_scratch;
  std::span<const std::byte> decoded;
  const Extent* decoded_from = nullptr;
  for (const Extent& extent : extents) {
    const std::span<std::byte> target = buffer.first(extent.length);
    buffer = buffer.subspan(extent.length);
    const uint64_t begin = extent.host_offset - host_begin;
    if (begin >= streams.size()) return truncated(host_begin + streams.size(), extent.host_offset);
    const auto stream =
        streams.subspan(begin, std::min(extent.host_length, streams.size() - begin));
    Decompressor& decompressor = thread_decompressor(extent.codec);
    if (extent.length == extent.cluster_size) {
      RETURN_IF_ERROR(decompressor.decompress(stream, target));
      continue;
    }
    if (decoded_from == nullptr || !is_same_cluster(*decoded_from, extent)) {
      const std::span<std::byte> cluster = cluster_scratch.get().take(extent.cluster_size);
      RETURN_IF_ERROR(decompressor.decompress(stream, cluster));
      decoded = cluster;
      decoded_from = &extent;
    }
    std::memcpy(target.data(), decoded.data() + extent.offset_in_cluster, extent.length);
  }
  return ok();
}

Result<void> read_compressed_run(std::span<const Extent> extents, const HostRange& range,
                                 std::span<std::byte> buffer, FileEnd file_end) {
  static const PerThread<Scratch> stream_scratch;
  std::span<std::byte> streams = stream_scratch.get().take(range.length());
  ASSIGN_OR_RETURN(const size_t got, read_with_zero_tail(*extents[0].file, range.begin, streams));
  if (file_end == FileEnd::kError) streams = streams.first(got);
  return decode_run(extents, streams, range.begin, buffer);
}

/// Reads extents that lie together in the file.
Result<void> read_data_run(std::span<const Extent> extents, std::span<std::byte> buffer,
                           FileEnd file_end) {
  File& file = *extents[0].file;
  ASSIGN_OR_RETURN(const size_t got, read_with_zero_tail(file, extents[0].host_offset, buffer));
  if (got == buffer.size() || file_end == FileEnd::kZeros) return ok();
  ASSIGN_OR_RETURN(const FileStat stat, file.blocking().stat());
  for (const Extent& extent : extents) RETURN_IF_ERROR(check_file_end(extent, stat.length));
  return ok();
}

uint64_t total_length(std::span<const Extent> extents) {
  uint64_t length = 0;
  for (const Extent& extent : extents) length += extent.length;
  return length;
}

}  // namespace

Result<void> check_file_end(const Extent& extent, uint64_t file_length) {
  const uint64_t unit = extent.cluster_size != 0 ? extent.cluster_size : kSectorSize;
  // Not rounded up: a file may be longer than anything an offset can be added to.
  const uint64_t last_unit = round_down(extent.host_offset + extent.length - 1, unit);
  if (last_unit < file_length) return ok();
  return truncated(file_length, std::max(extent.host_offset, file_length));
}

Result<void> read_extents(std::span<const Extent> extents, std::span<std::byte> buffer,
                          FileEnd file_end) {
  assert(total_length(extents) == buffer.size());
  while (!extents.empty()) {
    const Extent& first = extents[0];
    size_t count = 1;
    uint64_t length = first.length;
    switch (first.kind) {
      case ExtentKind::kUnallocated:
      case ExtentKind::kZero:
        std::memset(buffer.data(), 0, length);
        break;
      case ExtentKind::kData:
        count = data_run_length(extents);
        length = total_length(extents.first(count));
        RETURN_IF_ERROR(read_data_run(extents.first(count), buffer.first(length), file_end));
        break;
      case ExtentKind::kCompressed: {
        HostRange range{first.host_offset, first.host_offset + first.host_length};
        count = compressed_run_length(extents, range);
        length = total_length(extents.first(count));
        RETURN_IF_ERROR(
            read_compressed_run(extents.first(count), range, buffer.first(length), file_end));
        break;
      }
    }
    buffer = buffer.subspan(length);
    extents = extents.subspan(count);
  }
  return ok();
}

}  // namespace imgconv
