#include "formats/qcow2/resize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "formats/qcow2/l1_references.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// Would what is added show the backing image? Preallocated with its space it is data already.
bool shows_backing(const ResizeRequest& request, uint64_t old_size) {
  return request.virtual_size > old_size && request.backing_size > old_size &&
         request.preallocation < Preallocation::kFalloc;
}

Result<void> check_request(const Header& header, const ResizeRequest& request) {
  if (!is_aligned(request.virtual_size, kSectorSize)) {
    return Error(EINVAL, fmt::format("The new size must be a multiple of {}", kSectorSize));
  }
  // Snapshots of version 2 need not know the size of their disk.
  if (header.snapshot_count != 0 && header.version < 3) {
    return Error(ENOTSUP, "Can't resize a v2 image which has snapshots");
  }
  // Within the last cluster zeros can be written; beyond it they would need the zero flag.
  const bool adds_clusters =
      request.virtual_size > round_up(header.guest_size(), header.cluster_size());
  if (header.version < 3 && adds_clusters && shows_backing(request, header.guest_size())) {
    return Error::from_errno(ENOTSUP, "Failed to zero out new clusters");
  }
  return ok();
}

Task<Result<void>> grow_l1(const Metadata& metadata, uint64_t entries) {
  if (entries > kMaxL1Bytes / kTableEntryBytes) co_return Error::from_errno(EFBIG);
  Header& header = metadata.header;
  const HostClusters old_place = metadata.l1_clusters();
  CO_ASSIGN_OR_RETURN(const HostClusters place,
                      co_await write_new_l1(metadata, metadata.tables.l1(), entries));
  header.l1_table_offset = HostOffset(place.first << header.cluster_bits);
  header.l1_entries = static_cast<uint32_t>(entries);
  CO_RETURN_IF_ERROR(co_await write_disk_fields(metadata));
  const std::span<const L1Entry> l1 = metadata.tables.l1();
  metadata.tables.replace_l1(header.l1_table_offset, {l1.begin(), l1.end()});
  metadata.allocator.protected_clusters().add(place, MetadataKind::kActiveL1);
  if (old_place.clusters != 0) {
    metadata.allocator.protected_clusters().remove_at(old_place.first);
    CO_RETURN_IF_ERROR(co_await metadata.allocator.free(old_place));
  }
  co_return ok();
}

/// Space in the file for what was preallocated, as the mode wants it.
Task<Result<void>> fill_runs(std::vector<HostRun> runs, Preallocation mode) {
  for (const HostRun& run : runs) {
    if (mode == Preallocation::kFalloc) {
      CO_RETURN_IF_ERROR(co_await run.file->allocate(run.host_offset, run.length));
      continue;
    }
    constexpr uint64_t kStep = kMiB;
    const std::vector<std::byte> zeros(std::min(kStep, run.length));
    for (uint64_t done = 0; done < run.length; done += zeros.size()) {
      const uint64_t step = std::min<uint64_t>(zeros.size(), run.length - done);
      const Result<void> written =
          co_await run.file->write(run.host_offset + done, std::span(zeros).first(step));
      if (!written) {
        co_return Error(written.error()).within("Could not write zeros for preallocation");
      }
    }
  }
  co_return ok();
}

Task<Result<void>> preallocate(Writer& writer, File* data_file, ResizeRequest request,
                               uint64_t old_size) {
  const bool has_space = request.preallocation >= Preallocation::kFalloc;
  const Writer::PreallocateOptions options{has_space, has_space && request.backing_size > old_size};
  CO_ASSIGN_OR_RETURN(std::vector<HostRun> runs,
                      co_await writer.preallocate(old_size, request.virtual_size, options));
  if (!has_space) {
    if (data_file == nullptr) co_return ok();
    // As long as with the other modes.
    CO_RETURN_IF_ERROR(co_await data_file->truncate(
        round_up(request.virtual_size, writer.metadata().header.subcluster_size())));
    co_return ok();
  }
  Result<void> filled = co_await fill_runs(std::move(runs), request.preallocation);
  if (!filled) co_return std::move(filled).error().within("Failed to resize underlying file");
  co_return ok();
}

/// What lies below must not show through where the disk is new.
Task<Result<void>> hide_backing(Writer& writer, ResizeRequest request, uint64_t old_size) {
  if (!shows_backing(request, old_size)) co_return ok();
  Result<void> zeroed =
      co_await writer.write_zeroes(old_size, request.virtual_size - old_size, false);
  if (!zeroed) co_return std::move(zeroed).error().within("Failed to zero out new clusters");
  co_return ok();
}

Task<Result<void>> grow(Writer& writer, File* data_file, ResizeRequest request) {
  const Metadata metadata = writer.metadata();
  Header& header = metadata.header;
  const uint64_t old_size = header.guest_size();
  // The data file of a raw image must have every byte of the disk.
  if (header.is_data_file_raw() && request.preallocation == Preallocation::kOff) {
    request.preallocation = Preallocation::kMetadata;
  }
  const uint64_t l1_entries = div_round_up(request.virtual_size, header.l2_coverage());
  if (l1_entries > header.l1_entries) {
    Result<void> grown = co_await grow_l1(metadata, l1_entries);
    if (!grown) co_return std::move(grown).error().within("Failed to grow the L1 table");
  }
  if (data_file != nullptr) CO_RETURN_IF_ERROR(co_await data_file->truncate(request.virtual_size));
  header.virtual_size = request.virtual_size;
  if (request.preallocation != Preallocation::kOff && request.virtual_size > old_size) {
    CO_RETURN_IF_ERROR(co_await preallocate(writer, data_file, request, old_size));
  }
  CO_RETURN_IF_ERROR(co_await hide_backing(writer, request, old_size));
  Result<void> flushed = co_await writer.flush(true);
  if (!flushed) {
    co_return std::move(flushed).error().within("Failed to flush the preallocated area to disk");
  }
  co_return ok();
}

/// Empties everything from `first_cluster` on, in the file before the refcounts go down: first the
/// end of the last table that stays, then the L1 entries behind it.
Task<Result<void>> cut_tail(Writer& writer, uint64_t first_cluster) {
  const Metadata metadata = writer.metadata();
  const uint64_t l2_entries = metadata.tables.l2_entries();
  const uint64_t first_dropped_table = div_round_up(first_cluster, l2_entries);
  CO_ASSIGN_OR_RETURN(
      const std::vector<L2Entry> taken,
      co_await writer.take_entries(first_cluster, first_dropped_table * l2_entries));
  const std::span<const L1Entry> l1 = metadata.tables.l1();
  const auto tail = l1.subspan(std::min<uint64_t>(first_dropped_table, l1.size()));
  const std::vector<L1Entry> dropped(tail.begin(), tail.end());
  for (uint64_t i = 0; i < dropped.size(); ++i) {
    if (dropped[i].raw() != 0) metadata.tables.set_l1(first_dropped_table + i, L1Entry());
  }
  CO_RETURN_IF_ERROR(co_await writer.flush(true));
  for (const L2Entry entry : taken) {
    CO_RETURN_IF_ERROR(co_await release_and_discard(metadata, entry));
  }
  L1References references(metadata, dropped);
  CO_RETURN_IF_ERROR(co_await references.drop());
  co_return ok();
}

/// Refcount blocks that have become idle, and the end of the file that nothing uses.
Task<Result<void>> drop_idle_blocks(const Metadata& metadata) {
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> blocks,
                      co_await metadata.refcounts.take_empty_blocks());
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  for (const uint64_t cluster : blocks) {
    metadata.allocator.protected_clusters().remove_table(cluster);
    CO_RETURN_IF_ERROR(co_await metadata.allocator.release_unused({cluster, 1}));
  }
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  co_return ok();
}

Task<Result<void>> truncate_file(const Metadata& metadata) {
  CO_ASSIGN_OR_RETURN(const FileStat stat, metadata.io.file().stat());
  if (stat.is_block_device) co_return ok();
  const unsigned bits = metadata.header.cluster_bits;
  CO_ASSIGN_OR_RETURN(const uint64_t end, co_await metadata.refcounts.end_of_use(
                                              clusters_for(stat.length, bits).value()));
  if (end << bits >= stat.length) co_return ok();
  metadata.allocator.cut_file(end);
  // Not being able to is no failure: what is behind is not used.
  const Result<void> ignored = co_await metadata.io.file().truncate(end << bits);
  static_cast<void>(ignored);
  co_return ok();
}

Task<Result<void>> shrink(Writer& writer, File* data_file, ResizeRequest request) {
  const Metadata metadata = writer.metadata();
  const uint64_t first_cluster =
      clusters_for(request.virtual_size, metadata.header.cluster_bits).value();
  Result<void> cut = co_await cut_tail(writer, first_cluster);
  if (!cut) co_return std::move(cut).error().within("Failed to discard cropped clusters");
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  Result<void> dropped = co_await drop_idle_blocks(metadata);
  if (!dropped) co_return std::move(dropped).error().within("Failed to discard unused refblocks");
  CO_RETURN_IF_ERROR(co_await truncate_file(metadata));
  if (data_file != nullptr) CO_RETURN_IF_ERROR(co_await data_file->truncate(request.virtual_size));
  metadata.header.virtual_size = request.virtual_size;
  co_return ok();
}

Task<Result<void>> change_size(Writer& writer, File* data_file, ResizeRequest request) {
  const Metadata metadata = writer.metadata();
  if (request.virtual_size < metadata.header.guest_size()) {
    CO_RETURN_IF_ERROR(co_await shrink(writer, data_file, request));
  } else {
    CO_RETURN_IF_ERROR(co_await grow(writer, data_file, request));
  }
  Result<void> written = co_await write_disk_fields(metadata);
  if (!written) co_return std::move(written).error().within("Failed to update the image size");
  co_return ok();
}

}  // namespace

Task<Result<void>> resize(Writer& writer, File* data_file, Bitmaps& bitmaps,
                          ResizeRequest request) {
  const Header& header = writer.metadata().header;
  CO_RETURN_IF_ERROR(check_request(header, request));
  CO_RETURN_IF_ERROR(co_await bitmaps.prepare_resize(request.virtual_size));
  const uint64_t old_size = header.guest_size();
  Result<void> resized = co_await change_size(writer, data_file, request);
  if (resized) {
    CO_RETURN_IF_ERROR(co_await bitmaps.finish_resize());
  } else if (request.virtual_size > old_size && header.guest_size() == old_size) {
    // A disk that was to shrink may have lost what no bitmap has recorded.
    bitmaps.abandon_resize();
  }
  co_return resized;
}

}  // namespace imgconv::qcow2
