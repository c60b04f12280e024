#include "formats/qcow2/snapshot_operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "formats/qcow2/l1_references.h"
#include "formats/qcow2/snapshot_store.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// One more than the highest number among the ids.
std::string next_id(std::span<const Snapshot> snapshots) {
  uint64_t highest = 0;
  for (const Snapshot& snapshot : snapshots) {
    highest = std::max<uint64_t>(highest, std::strtoul(snapshot.info.id.c_str(), nullptr, 10));
  }
  return fmt::to_string(highest + 1);
}

/// What a snapshot was allotted in vain goes back.
Task<Result<void>> release_l1(const Metadata& metadata, HostClusters place) {
  if (place.clusters != 0) CO_RETURN_IF_ERROR(co_await metadata.allocator.free(place));
  co_return ok();
}

/// What an L1 table and a snapshot table that shows it need, in the file; nothing leads to them.
struct Prepared {
  HostClusters l1_place;
  NewSnapshotTable table;
};

/// After raised refcounts. The last of `snapshots` is the new one. `prepared` is filled as far as
/// it gets.
Task<Result<void>> prepare(Writer& writer, std::span<const L1Entry> l1,
                           std::vector<Snapshot>& snapshots, Prepared& prepared) {
  const Metadata metadata = writer.metadata();
  const Header& header = metadata.header;
  CO_ASSIGN_OR_RETURN(prepared.l1_place, co_await write_new_l1(metadata, l1, header.l1_entries));
  snapshots.back().l1_table_offset = HostOffset(prepared.l1_place.first << header.cluster_bits);
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  // Before the snapshot exists: whoever trusted a copied bit afterwards would write into it.
  CO_RETURN_IF_ERROR(co_await update_copied_bits(metadata));
  CO_RETURN_IF_ERROR(co_await writer.flush(true));
  CO_ASSIGN_OR_RETURN(prepared.table, co_await write_snapshot_table(metadata, snapshots));
  co_return ok();
}

Task<Result<void>> undo(Writer& writer, L1References& references, HostClusters l1_place) {
  const Metadata metadata = writer.metadata();
  CO_RETURN_IF_ERROR(co_await release_l1(metadata, l1_place));
  CO_RETURN_IF_ERROR(co_await references.take_back());
  CO_RETURN_IF_ERROR(co_await update_copied_bits(metadata));
  CO_RETURN_IF_ERROR(co_await writer.flush(true));
  co_return ok();
}

Result<void> check_applicable(const Header& header, const Snapshot* snapshot) {
  if (header.has_data_file()) return Error::from_errno(ENOTSUP);
  if (snapshot == nullptr) return Error::from_errno(ENOENT);
  RETURN_IF_ERROR(check_snapshot_l1(*snapshot, header));
  if (!is_aligned(snapshot->disk_size, kSectorSize)) return Error::from_errno(EINVAL);
  if (snapshot->disk_size != header.guest_size() && header.version < 3) {
    return Error(ENOTSUP, "Can't resize a v2 image which has snapshots");
  }
  const uint64_t l1_entries = div_round_up(snapshot->disk_size, header.l2_coverage());
  if (snapshot->disk_size > kMaxDiskSize || l1_entries > kMaxL1Bytes / kTableEntryBytes) {
    return Error::from_errno(EFBIG);
  }
  return ok();
}

}  // namespace

Task<Result<void>> create_snapshot(Writer& writer, std::vector<Snapshot>& snapshots,
                                   SnapshotInfo info) {
  const Metadata metadata = writer.metadata();
  const Header& header = metadata.header;
  if (snapshots.size() >= kMaxSnapshots) co_return Error::from_errno(EFBIG);
  if (header.has_data_file()) co_return Error::from_errno(ENOTSUP);
  // An entry that the table has no room for must not be found out about after the fact.
  Snapshot snapshot;
  snapshot.info = std::move(info);
  snapshot.info.id = next_id(snapshots);
  snapshot.disk_size = header.guest_size();
  snapshot.l1_entries = header.l1_entries;
  std::vector<Snapshot> longer = snapshots;
  longer.push_back(std::move(snapshot));
  CO_RETURN_IF_ERROR(snapshot_table_bytes(longer));

  const std::span<const L1Entry> active = metadata.tables.l1();
  const std::vector<L1Entry> l1(active.begin(), active.end());
  L1References references(metadata, l1);
  Result<void> done = co_await references.add();
  if (!done) {
    // Counts that had been written out raised are lowered in memory only.
    const Result<void> flushed = co_await flush_refcounts(metadata);
    static_cast<void>(flushed);
    co_return done;
  }
  Prepared prepared;
  done = co_await prepare(writer, l1, longer, prepared);
  if (!done) {
    // The first error is the one to tell; what cannot be undone is a leak.
    const Result<void> undone = co_await undo(writer, references, prepared.l1_place);
    static_cast<void>(undone);
    co_return done;
  }
  // From here on the file may have the snapshot, whatever an error says: its counts stay.
  CO_RETURN_IF_ERROR(co_await switch_snapshot_table(metadata, prepared.table));
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  snapshots = std::move(longer);
  writer.protect_snapshots(snapshots);
  co_return ok();
}

Task<Result<void>> apply_snapshot(Writer& writer, const std::vector<Snapshot>& snapshots,
                                  std::string id_or_name) {
  const Metadata metadata = writer.metadata();
  Header& header = metadata.header;
  const Snapshot* const snapshot = find_snapshot(snapshots, id_or_name);
  CO_RETURN_IF_ERROR(check_applicable(header, snapshot));
  CO_ASSIGN_OR_RETURN(std::vector<L1Entry> l1,
                      co_await read_snapshot_l1(metadata.io.file(), metadata.header, *snapshot));
  const uint64_t entries =
      std::max<uint64_t>({header.l1_entries, snapshot->l1_entries,
                          div_round_up(snapshot->disk_size, header.l2_coverage())});
  L1References references(metadata, l1);
  CO_RETURN_IF_ERROR(co_await references.add());
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));

  const std::span<const L1Entry> active = metadata.tables.l1();
  const std::vector<L1Entry> old_l1(active.begin(), active.end());
  const HostClusters old_place = metadata.l1_clusters();
  CO_ASSIGN_OR_RETURN(const HostClusters place, co_await write_new_l1(metadata, l1, entries));
  l1.resize(entries);
  // In a sound image every copied bit is off now, as the snapshot counts too: the tables may be
  // written before they are the active ones.
  metadata.tables.replace_l1(HostOffset(place.first << header.cluster_bits), l1);
  CO_RETURN_IF_ERROR(co_await update_copied_bits(metadata));
  CO_RETURN_IF_ERROR(co_await writer.flush(true));
  header.virtual_size = snapshot->disk_size;
  header.l1_entries = static_cast<uint32_t>(entries);
  header.l1_table_offset = HostOffset(place.first << header.cluster_bits);
  CO_RETURN_IF_ERROR(co_await write_disk_fields(metadata));

  if (old_place.clusters != 0) metadata.allocator.protected_clusters().remove_at(old_place.first);
  metadata.allocator.protected_clusters().add(place, MetadataKind::kActiveL1);
  L1References old_references(metadata, old_l1);
  CO_RETURN_IF_ERROR(co_await old_references.drop());
  CO_RETURN_IF_ERROR(co_await release_l1(metadata, old_place));
  CO_RETURN_IF_ERROR(co_await update_copied_bits(metadata));
  CO_RETURN_IF_ERROR(co_await writer.flush(true));
  co_return ok();
}

Task<Result<void>> delete_snapshot(Writer& writer, std::vector<Snapshot>& snapshots,
                                   std::string name) {
  const Metadata metadata = writer.metadata();
  const auto found = std::ranges::find(snapshots, name,
                                       [](const Snapshot& snapshot) { return snapshot.info.name; });
  if (found == snapshots.end()) co_return Error(ENOENT, "snapshot not found");
  const Snapshot snapshot = *found;
  CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1,
                      co_await read_snapshot_l1(metadata.io.file(), metadata.header, snapshot));
  std::vector<Snapshot> shorter = snapshots;
  shorter.erase(shorter.begin() + (found - snapshots.begin()));
  Result<void> stored = co_await store_snapshot_table(metadata, shorter);
  if (!stored) {
    co_return std::move(stored).error().within("Failed to remove snapshot from snapshot list");
  }
  snapshots = std::move(shorter);
  writer.protect_snapshots(snapshots);

  L1References references(metadata, l1);
  Result<void> dropped = co_await references.drop();
  if (!dropped) {
    co_return std::move(dropped).error().within("Failed to free the cluster and L1 table");
  }
  const uint64_t l1_bytes = snapshot.l1_entries * kTableEntryBytes;
  CO_RETURN_IF_ERROR(
      co_await release_l1(metadata, metadata.clusters_of(snapshot.l1_table_offset, l1_bytes)));
  Result<void> updated = co_await update_copied_bits(metadata);
  if (updated) updated = co_await writer.flush(true);
  if (!updated) {
    co_return std::move(updated).error().within("Failed to update snapshot status in disk");
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
