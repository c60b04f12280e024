#include "formats/qcow2/repair_snapshots.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/allocator.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount.h"
#include "formats/qcow2/snapshot_store.h"
#include "formats/qcow2/table_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// One entry, and what the file says of it.
struct SalvagedEntry {
  Snapshot snapshot;
  uint32_t stated_extra_size = 0;
  /// Bytes in the file, and in a table that is written anew.
  uint64_t size = 0;
  uint64_t kept_size = 0;
};

/// Entries that are cut may stand in a table that is too long; how much too long is our limit.
constexpr uint64_t kMaxCutTableBytes = 2 * kMaxSnapshotTableBytes;

/// Of too much extra data only the part that is known is kept.
Task<Result<SalvagedEntry>> read_entry(CheckContext& context, HostOffset offset) {
  RawSnapshot raw{};
  CO_RETURN_IF_ERROR(co_await context.read(offset, std::as_writable_bytes(std::span(&raw, 1))));
  SalvagedEntry entry;
  entry.stated_extra_size = raw.extra_data_size.get();
  const uint32_t extra_size = entry.stated_extra_size > kMaxSnapshotExtraBytes
                                  ? uint32_t{sizeof(RawSnapshotExtra)}
                                  : entry.stated_extra_size;
  raw.extra_data_size = extra_size;
  const uint64_t text_size = uint64_t{raw.id_length.get()} + raw.name_length.get();
  std::vector<std::byte> bytes(sizeof(raw) + extra_size + text_size);
  const std::span<std::byte> span(bytes);
  store_struct(span, raw);
  const HostOffset extra_offset = offset + sizeof(raw);
  const HostOffset text_offset = extra_offset + entry.stated_extra_size;
  CO_RETURN_IF_ERROR(co_await context.read(extra_offset, span.subspan(sizeof(raw), extra_size)));
  CO_RETURN_IF_ERROR(co_await context.read(text_offset, span.last(text_size)));
  CO_ASSIGN_OR_RETURN(SnapshotTable table,
                      parse_snapshot_table(bytes, 1, context.header.guest_size()));
  entry.snapshot = std::move(table.snapshots.front());
  entry.size = text_offset + text_size - offset;
  entry.kept_size = bytes.size();
  co_return entry;
}

uint32_t limit_count(CheckContext& context, SalvagedSnapshots& salvaged) {
  const uint32_t count = context.header.snapshot_count;
  // Where the header is there are no snapshots. QEMU keeps them, and repairs the header under them.
  const bool is_header = context.header.snapshot_table_offset == HostOffset(0);
  const uint32_t limit = is_header ? 0 : kMaxSnapshots;
  if (count <= limit) return count;
  context.say(fmt::format("Discarding {} overhanging snapshots", count - limit));
  salvaged.corruptions += count - limit;
  salvaged.overhanging += count - limit;
  return limit;
}

void say_incomplete(CheckContext& context, std::span<const Snapshot> snapshots,
                    uint64_t& corruptions) {
  if (context.header.version < 3) return;
  for (size_t i = 0; i < snapshots.size(); ++i) {
    if (snapshots[i].extra_data_size >= kMinV3SnapshotExtraBytes) continue;
    context.say(fmt::format("Repairing snapshot table entry {} is incomplete", i));
    ++corruptions;
  }
}

/// Clusters that follow each other. Pieces between which others stand are given back.
Task<Result<HostClusters>> allocate_together(Allocator& allocator, uint64_t clusters) {
  HostClusters run;
  std::vector<HostClusters> too_short;
  while (run.clusters < clusters) {
    CO_ASSIGN_OR_RETURN(const AllocatedClusters added,
                        co_await allocator.allocate(clusters - run.clusters));
    if (run.clusters != 0 && added.clusters.first != run.end()) {
      too_short.push_back(std::exchange(run, {}));
    }
    if (run.clusters == 0) run.first = added.clusters.first;
    run.clusters += added.clusters.clusters;
  }
  for (const HostClusters& piece : too_short) {
    CO_RETURN_IF_ERROR(co_await allocator.release_unused(piece));
  }
  co_return run;
}

}  // namespace

Task<Result<SalvagedSnapshots>> salvage_snapshots(CheckContext& context) {
  SalvagedSnapshots salvaged;
  const uint32_t count = limit_count(context, salvaged);
  std::vector<Snapshot>& snapshots = salvaged.table.snapshots;
  uint64_t& position = salvaged.table.size;
  uint64_t kept_size = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t begin = round_up(position, 8);
    CO_ASSIGN_OR_RETURN(SalvagedEntry entry,
                        co_await read_entry(context, context.header.snapshot_table_offset + begin));
    if (entry.stated_extra_size > kMaxSnapshotExtraBytes) {
      context.say(
          fmt::format("Discarding too much extra metadata in snapshot table entry {} ({} > {})", i,
                      entry.stated_extra_size, kMaxSnapshotExtraBytes));
      ++salvaged.corruptions;
    }
    kept_size = round_up(kept_size, 8) + entry.kept_size;
    if (kept_size > kMaxSnapshotTableBytes || begin + entry.size > kMaxCutTableBytes) {
      context.say(fmt::format("Discarding {} overhanging snapshots (snapshot table is too big)",
                              count - i));
      salvaged.corruptions += count - i;
      salvaged.overhanging += count - i;
      break;
    }
    position = begin + entry.size;
    snapshots.push_back(std::move(entry.snapshot));
  }
  say_incomplete(context, snapshots, salvaged.corruptions);
  co_return salvaged;
}

Task<Result<void>> drop_overhanging_snapshots(CheckContext& context, Header& header,
                                              const SalvagedSnapshots& snapshots) {
  const auto count = static_cast<uint32_t>(snapshots.table.snapshots.size());
  std::array<std::byte, 4> bytes;
  store_be(bytes.data(), count);
  CO_RETURN_IF_ERROR(co_await context.write(HostOffset(offsetof(RawHeader, nb_snapshots)), bytes));
  CO_RETURN_IF_ERROR(co_await context.flush());
  header.snapshot_count = count;
  co_return ok();
}

Task<Result<void>> replace_snapshot_table(CheckContext& context, Header& header,
                                          const SalvagedSnapshots& snapshots, bool frees_old) {
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes,
                      snapshot_table_bytes(snapshots.table.snapshots));
  if (context.has_lost_track) co_return Error::from_errno(EFBIG);
  TableIo io(context.file(), nullptr);
  Refcounts refcounts(header, io);
  CO_RETURN_IF_ERROR(co_await refcounts.load_table());
  Allocator allocator(refcounts, header.cluster_bits, {context.file_length, false});
  allocator.set_avoided([&context](HostClusters range) -> std::optional<uint64_t> {
    const unsigned bits = context.header.cluster_bits;
    const auto end =
        context.beyond_file.find_end(HostCluster(range.first).offset(bits), range.clusters << bits);
    if (!end) return std::nullopt;
    return clusters_for(*end, bits).value();
  });

  HostClusters place;
  if (!bytes.empty()) {
    const uint64_t clusters = clusters_for(bytes.size(), header.cluster_bits).value();
    CO_ASSIGN_OR_RETURN(place, co_await allocate_together(allocator, clusters));
  }
  const HostOffset offset(place.first << header.cluster_bits);
  CO_RETURN_IF_ERROR(co_await allocator.flush());
  CO_RETURN_IF_ERROR(co_await context.write(offset, bytes));
  CO_RETURN_IF_ERROR(co_await context.flush());

  const auto count = static_cast<uint32_t>(snapshots.table.snapshots.size());
  const SnapshotPointer pointer = snapshot_pointer(count, offset);
  CO_RETURN_IF_ERROR(co_await context.write(HostOffset(kSnapshotPointerOffset), pointer));
  CO_RETURN_IF_ERROR(co_await context.flush());
  const HostOffset old_offset = std::exchange(header.snapshot_table_offset, offset);
  header.snapshot_count = count;
  if (!frees_old || snapshots.table.size == 0) co_return ok();
  // The header on disk does not refer to it any more.
  const HostCluster first = containing_cluster(old_offset, header.cluster_bits);
  const ClusterCount end =
      clusters_for(old_offset.bytes() + snapshots.table.size, header.cluster_bits);
  CO_RETURN_IF_ERROR(
      co_await allocator.release_unused({first.index(), end.value() - first.index()}));
  CO_RETURN_IF_ERROR(co_await allocator.flush());
  co_return ok();
}

}  // namespace imgconv::qcow2
