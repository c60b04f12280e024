#include "formats/qcow2/snapshot_store.h"

#include <cerrno>
#include <limits>
#include <string>
#include <utility>

#include "formats/byteorder.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

constexpr uint64_t kNoIcount = std::numeric_limits<uint64_t>::max();

template <class Struct>
void append_struct(std::vector<std::byte>& out, const Struct& value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_text(std::vector<std::byte>& out, const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_entry(std::vector<std::byte>& out, const Snapshot& snapshot) {
  const SnapshotInfo& info = snapshot.info;
  RawSnapshot raw{};
  raw.l1_table_offset = snapshot.l1_table_offset.bytes();
  raw.l1_size = snapshot.l1_entries;
  raw.id_length = static_cast<uint16_t>(info.id.size());
  raw.name_length = static_cast<uint16_t>(info.name.size());
  raw.date_sec = info.date_sec;
  raw.date_nsec = info.date_nsec;
  raw.vm_clock_nsec = info.vm_clock_nsec;
  // A reader that knows the short field only must rather see no VM state than a part of it.
  if (info.vm_state_size <= std::numeric_limits<uint32_t>::max()) {
    raw.vm_state_size = static_cast<uint32_t>(info.vm_state_size);
  }
  raw.extra_data_size =
      static_cast<uint32_t>(sizeof(RawSnapshotExtra) + snapshot.unknown_extra.size());
  append_struct(out, raw);
  RawSnapshotExtra extra{};
  extra.vm_state_size = info.vm_state_size;
  extra.disk_size = snapshot.disk_size;
  extra.icount = info.icount.value_or(kNoIcount);
  append_struct(out, extra);
  out.insert(out.end(), snapshot.unknown_extra.begin(), snapshot.unknown_extra.end());
  append_text(out, info.id);
  append_text(out, info.name);
}

}  // namespace

Result<std::vector<std::byte>> snapshot_table_bytes(std::span<const Snapshot> snapshots) {
  if (snapshots.size() > kMaxSnapshots) return Error::from_errno(EFBIG);
  std::vector<std::byte> bytes;
  for (const Snapshot& snapshot : snapshots) {
    bytes.resize(round_up(bytes.size(), 8));
    append_entry(bytes, snapshot);
    if (bytes.size() > kMaxSnapshotTableBytes) return Error::from_errno(EFBIG);
  }
  return bytes;
}

SnapshotPointer snapshot_pointer(uint32_t count, HostOffset table_offset) {
  static_assert(offsetof(RawHeader, snapshots_offset) == offsetof(RawHeader, nb_snapshots) + 4);
  SnapshotPointer pointer;
  store_be(pointer.data(), count);
  store_be(pointer.data() + 4, table_offset.bytes());
  return pointer;
}

Task<Result<NewSnapshotTable>> write_snapshot_table(const Metadata& metadata,
                                                    std::span<const Snapshot> snapshots) {
  const Header& header = metadata.header;
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, snapshot_table_bytes(snapshots));
  CO_ASSIGN_OR_RETURN(const SnapshotTable old,
                      co_await read_snapshot_table(metadata.io.file(), header));
  NewSnapshotTable table;
  table.count = static_cast<uint32_t>(snapshots.size());
  table.old_place = metadata.clusters_of(header.snapshot_table_offset, old.size);
  if (bytes.empty()) co_return table;
  CO_ASSIGN_OR_RETURN(table.place, co_await metadata.allocator.allocate_contiguous(
                                       clusters_for(bytes.size(), header.cluster_bits).value()));
  metadata.allocator.protected_clusters().add(table.place, MetadataKind::kSnapshotTable);
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  CO_RETURN_IF_ERROR(
      co_await metadata.io.write_one(table.place.first << header.cluster_bits, bytes));
  CO_RETURN_IF_ERROR(co_await barrier(metadata));
  co_return table;
}

Task<Result<void>> switch_snapshot_table(const Metadata& metadata, NewSnapshotTable table) {
  Header& header = metadata.header;
  const HostOffset offset(table.place.first << header.cluster_bits);
  const SnapshotPointer pointer = snapshot_pointer(table.count, offset);
  CO_RETURN_IF_ERROR(co_await metadata.io.write_one(kSnapshotPointerOffset, pointer));
  CO_RETURN_IF_ERROR(co_await barrier(metadata));
  header.snapshot_count = table.count;
  header.snapshot_table_offset = offset;
  if (table.old_place.clusters != 0) {
    metadata.allocator.protected_clusters().remove_at(table.old_place.first);
    CO_RETURN_IF_ERROR(co_await metadata.allocator.free(table.old_place));
  }
  co_return ok();
}

Task<Result<void>> store_snapshot_table(const Metadata& metadata,
                                        std::span<const Snapshot> snapshots) {
  CO_ASSIGN_OR_RETURN(const NewSnapshotTable table,
                      co_await write_snapshot_table(metadata, snapshots));
  CO_RETURN_IF_ERROR(co_await switch_snapshot_table(metadata, table));
  co_return ok();
}

}  // namespace imgconv::qcow2
