#include "formats/qcow2/check_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Reads of at least a quarter of the window go past it.
constexpr uint64_t kWindowBytes = 128 * kKiB;
/// Ours: 24 MiB of them. A file that was cut off has few.
constexpr size_t kMaxRangesBeyondFile = size_t{1} << 20;

}  // namespace

Result<void> CheckContext::measure_file() {
  ASSIGN_OR_RETURN(const FileStat stat, file_.stat());
  file_length = round_up(stat.length, kSectorSize);
  cluster_count = clusters_for(file_length, header.cluster_bits).value();
  if (cluster_count > std::numeric_limits<int32_t>::max()) return Error(EFBIG, "");
  return ok();
}

bool CheckContext::add_references(HostOffset offset, uint64_t size, uint64_t weight) {
  if (size == 0) return true;
  // The last cluster of an image may be partly outside the file.
  const std::optional<uint64_t> end = checked_add(offset.bytes(), size);
  if (!end || (*end > file_length && *end - file_length >= header.cluster_size())) {
    corruption(
        fmt::format("ERROR: counting reference for region exceeding the end of the file by one "
                    "cluster or more: offset {:#x} size {:#x}",
                    offset.bytes(), size));
    has_lost_track |= !beyond_file.add_next(offset, size, kMaxRangesBeyondFile);
    return false;
  }
  const HostCluster last = containing_cluster(HostOffset(*end - 1), header.cluster_bits);
  cluster_count = std::max(cluster_count, last.index() + 1);
  for (HostCluster cluster = containing_cluster(offset, header.cluster_bits); cluster <= last;
       cluster = cluster + ClusterCount(1)) {
    if (header.refcount_max() - counts.get(cluster) < weight) {
      counts.add(cluster, header.refcount_max() - counts.get(cluster));
      corruption(fmt::format("ERROR: overflow cluster offset={:#x}",
                             cluster.offset(header.cluster_bits).bytes()));
      say("Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a "
          "clean copy if the image cannot be opened for writing");
      continue;
    }
    counts.add(cluster, weight);
  }
  return true;
}

Task<Result<void>> CheckContext::write(HostOffset offset, std::span<const std::byte> data) {
  window_.clear();
  has_unsynced_writes_ = true;
  CO_RETURN_IF_ERROR(co_await file_.write(offset.bytes(), data));
  co_return ok();
}

Task<Result<void>> CheckContext::flush() {
  if (!has_unsynced_writes_) co_return ok();
  CO_RETURN_IF_ERROR(co_await file_.flush());
  has_unsynced_writes_ = false;
  co_return ok();
}

Result<void> CheckContext::check_overlap(HostOffset offset, uint64_t size) {
  const std::optional<std::string_view> name = metadata.find(offset, size);
  if (!name) return ok();
  return refuse_overlap(*name);
}

Error CheckContext::refuse_overlap(std::string_view name) {
  has_found_overlap = true;
  say(
      fmt::format("qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps "
                  "with {}); further corruption events will be suppressed",
                  name));
  return Error::from_errno(EIO);
}

Task<Result<void>> CheckContext::read(HostOffset offset, std::span<std::byte> buffer) {
  const uint64_t position = offset.bytes();
  // What the system calls EINVAL is an I/O error in QEMU.
  constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
  if (position > kMaxOffset - buffer.size()) co_return Error::from_errno(EIO);
  if (buffer.size() >= kWindowBytes / 4) {
    CO_ASSIGN_OR_RETURN(const size_t bytes, co_await file_.read(position, buffer));
    std::ranges::fill(buffer.subspan(bytes), std::byte{0});
    co_return ok();
  }
  const bool is_inside =
      position >= window_offset_ && position - window_offset_ + buffer.size() <= window_.size();
  if (!is_inside) {
    window_.resize(kWindowBytes);
    window_offset_ = position;
    auto bytes = co_await file_.read(position, window_);
    if (!bytes) {
      window_.clear();
      co_return std::move(bytes).error();
    }
    std::fill(window_.begin() + static_cast<ptrdiff_t>(*bytes), window_.end(), std::byte{0});
  }
  const auto from = std::span(window_).subspan(position - window_offset_, buffer.size());
  std::ranges::copy(from, buffer.begin());
  co_return ok();
}

}  // namespace imgconv::qcow2
