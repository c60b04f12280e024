#include "engine/guest_write.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "formats/codec.h"
#include "loop/io_buffer.h"
#include "loop/try.h"

namespace imgconv {
namespace {

/// Compresses one cluster, with zeros behind the end of the disk (QCOW2.md 4.2), into `room`. Any
/// thread.
std::optional<size_t> compress_cluster(const CompressionInfo& info,
                                       std::span<const std::byte> bytes,
                                       std::span<std::byte> room) {
  std::vector<std::byte> padded;
  if (bytes.size() < info.cluster_size) {
    padded.assign(bytes.begin(), bytes.end());
    padded.resize(info.cluster_size);
    bytes = padded;
  }
  return thread_compressor(info.codec).compress(bytes, room);
}

}  // namespace

Task<Result<void>> write_guest(Image& image, uint64_t guest_offset,
                               std::span<const std::byte> bytes) {
  CO_ASSIGN_OR_RETURN(const std::vector<HostRun> runs,
                      co_await image.reserve(guest_offset, bytes.size()));
  for (const HostRun& run : runs) {
    CO_RETURN_IF_ERROR(co_await run.file->write(
        run.host_offset, bytes.subspan(run.guest_offset - guest_offset, run.length)));
  }
  CO_RETURN_IF_ERROR(co_await image.link(guest_offset, bytes.size()));
  co_return ok();
}

Task<Result<void>> write_guest_compressed(Image& image, Executor& executor, uint64_t guest_offset,
                                          std::span<const std::byte> bytes) {
  const std::optional<CompressionInfo> info = image.compression();
  if (!info) co_return Error::from_errno(ENOTSUP);
  IoBuffer room(info->cluster_size);
  while (!bytes.empty()) {
    const std::span<const std::byte> cluster =
        bytes.first(std::min<uint64_t>(bytes.size(), info->cluster_size));
    std::optional<size_t> length;
    const auto compress = [&]() -> Result<void> {
      // A stream as long as the cluster is not worth it.
      length = compress_cluster(*info, cluster, room.span().first(info->cluster_size - 1));
      return ok();
    };
    CO_RETURN_IF_ERROR(co_await run_on(executor, compress));
    if (length) {
      CO_ASSIGN_OR_RETURN(const HostRun run,
                          co_await image.reserve_compressed(guest_offset, *length));
      CO_RETURN_IF_ERROR(co_await run.file->write(run.host_offset, room.span().first(*length)));
      CO_RETURN_IF_ERROR(co_await image.link(guest_offset, cluster.size()));
    } else {
      CO_RETURN_IF_ERROR(co_await write_guest(image, guest_offset, cluster));
    }
    guest_offset += cluster.size();
    bytes = bytes.subspan(cluster.size());
  }
  co_return ok();
}

}  // namespace imgconv
