#include "formats/qcow2/repair_snapshots.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/allocator.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount.h"
#include "formats/qcow2/table_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

constexpr uint64_t kNoIcount = std::numeric_limits<uint64_t>::max();

/// One entry as it stands in the file; the extra data as far as it is kept.
struct RawEntry {
  RawSnapshot fixed{};
  std::vector<std::byte> extra;
  std::string id;
  std::string name;
  /// Bytes in the file.
  uint64_t size = 0;
};

Task<Result<std::string>> read_text(CheckContext& context, HostOffset offset, size_t length) {
  std::string text(length, '\0');
  CO_RETURN_IF_ERROR(co_await context.read(offset, std::as_writable_bytes(std::span(text))));
  text.resize(std::min(text.find('\0'), text.size()));
  co_return text;
}

/// Only the known part of too much extra data is kept.
Task<Result<RawEntry>> read_entry(CheckContext& context, HostOffset offset) {
  RawEntry entry;
  CO_RETURN_IF_ERROR(
      co_await context.read(offset, std::as_writable_bytes(std::span(&entry.fixed, 1))));
  const uint32_t extra_size = entry.fixed.extra_data_size.get();
  entry.extra.resize(extra_size > kMaxSnapshotExtraBytes ? sizeof(RawSnapshotExtra) : extra_size);
  HostOffset position = offset + sizeof(RawSnapshot);
  CO_RETURN_IF_ERROR(co_await context.read(position, entry.extra));
  position = position + extra_size;
  CO_ASSIGN_OR_RETURN(entry.id, co_await read_text(context, position, entry.fixed.id_length.get()));
  position = position + entry.fixed.id_length.get();
  CO_ASSIGN_OR_RETURN(entry.name,
                      co_await read_text(context, position, entry.fixed.name_length.get()));
  position = position + entry.fixed.name_length.get();
  entry.size = position - offset;
  co_return entry;
}

/// Completes the entry and writes it behind those in `bytes`.
void append_entry(std::vector<std::byte>& bytes, RawEntry& entry, uint64_t disk_size) {
  RawSnapshotExtra extra{};
  extra.vm_state_size = entry.fixed.vm_state_size.get();
  extra.disk_size = disk_size;
  extra.icount = kNoIcount;
  // Only whole fields count.
  const size_t known = std::min(entry.extra.size(), sizeof(extra)) / 8 * 8;
  if (known != 0) std::memcpy(&extra, entry.extra.data(), known);
  entry.extra.resize(std::max(entry.extra.size(), sizeof(extra)));
  std::memcpy(entry.extra.data(), &extra, sizeof(extra));
  entry.fixed.extra_data_size = static_cast<uint32_t>(entry.extra.size());
  entry.fixed.id_length = static_cast<uint16_t>(entry.id.size());
  entry.fixed.name_length = static_cast<uint16_t>(entry.name.size());
  bytes.resize(round_up(bytes.size(), 8));
  const auto append = [&bytes](std::span<const std::byte> part) {
    bytes.insert(bytes.end(), part.begin(), part.end());
  };
  append(std::as_bytes(std::span(&entry.fixed, 1)));
  append(entry.extra);
  append(std::as_bytes(std::span(entry.id)));
  append(std::as_bytes(std::span(entry.name)));
}

uint32_t limit_count(CheckContext& context, SalvagedSnapshots& salvaged) {
  const uint32_t count = context.header.snapshot_count;
  if (count <= kMaxSnapshots) return count;
  context.say(fmt::format("Discarding {} overhanging snapshots", count - kMaxSnapshots));
  salvaged.corruptions += count - kMaxSnapshots;
  salvaged.overhanging += count - kMaxSnapshots;
  return kMaxSnapshots;
}

void say_incomplete(CheckContext& context, std::span<const uint32_t> extra_sizes,
                    uint64_t& corruptions) {
  if (context.header.version < 3) return;
  for (size_t i = 0; i < extra_sizes.size(); ++i) {
    if (extra_sizes[i] >= kMinV3SnapshotExtraBytes) continue;
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
  std::vector<uint32_t> extra_sizes;
  uint64_t position = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t begin = round_up(position, 8);
    CO_ASSIGN_OR_RETURN(RawEntry entry,
                        co_await read_entry(context, context.header.snapshot_table_offset + begin));
    const uint32_t extra_size = entry.fixed.extra_data_size.get();
    if (extra_size > kMaxSnapshotExtraBytes) {
      context.say(
          fmt::format("Discarding too much extra metadata in snapshot table entry {} ({} > {})", i,
                      extra_size, kMaxSnapshotExtraBytes));
      ++salvaged.corruptions;
    }
    if (begin + entry.size > kMaxSnapshotTableBytes) {
      context.say(fmt::format("Discarding {} overhanging snapshots (snapshot table is too big)",
                              count - i));
      salvaged.corruptions += count - i;
      salvaged.overhanging += count - i;
      break;
    }
    position = begin + entry.size;
    extra_sizes.push_back(static_cast<uint32_t>(entry.extra.size()));
    append_entry(salvaged.bytes, entry, context.header.guest_size());
  }
  say_incomplete(context, extra_sizes, salvaged.corruptions);
  CO_ASSIGN_OR_RETURN(salvaged.table, parse_snapshot_table(
                                          salvaged.bytes, static_cast<uint32_t>(extra_sizes.size()),
                                          context.header.guest_size()));
  salvaged.table.size = position;
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
  if (snapshots.bytes.size() > kMaxSnapshotTableBytes) co_return Error::from_errno(EFBIG);
  TableIo io(context.file(), nullptr);
  Refcounts refcounts(header, io);
  CO_RETURN_IF_ERROR(co_await refcounts.load_table());
  Allocator allocator(refcounts, header.cluster_bits, {context.file_length, false});

  HostClusters place;
  if (!snapshots.bytes.empty()) {
    const uint64_t clusters = clusters_for(snapshots.bytes.size(), header.cluster_bits).value();
    CO_ASSIGN_OR_RETURN(place, co_await allocate_together(allocator, clusters));
  }
  const HostOffset offset(place.first << header.cluster_bits);
  CO_RETURN_IF_ERROR(co_await allocator.flush());
  CO_RETURN_IF_ERROR(co_await context.write(offset, snapshots.bytes));
  CO_RETURN_IF_ERROR(co_await context.flush());

  std::array<std::byte, 12> pointer;
  static_assert(offsetof(RawHeader, snapshots_offset) == offsetof(RawHeader, nb_snapshots) + 4);
  const auto count = static_cast<uint32_t>(snapshots.table.snapshots.size());
  store_be(pointer.data(), count);
  store_be(pointer.data() + 4, offset.bytes());
  CO_RETURN_IF_ERROR(
      co_await context.write(HostOffset(offsetof(RawHeader, nb_snapshots)), pointer));
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
