#include "formats/qcow2/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// First piece that is read; most tables are smaller.
constexpr uint64_t kFirstReadBytes = 64 * kKiB;

std::span<const std::byte> bytes_from(std::span<const std::byte> table, uint64_t position) {
  return table.subspan(std::min<uint64_t>(position, table.size()));
}

std::string text_at(std::span<const std::byte> table, uint64_t position, size_t length) {
  const auto present = bytes_from(table, position);
  std::string text(length, '\0');
  if (!present.empty()) {
    std::memcpy(text.data(), present.data(), std::min(length, present.size()));
  }
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

void take_extra_data(Snapshot& snapshot, std::span<const std::byte> extra) {
  const auto raw = load_struct<RawSnapshotExtra>(extra);
  const uint32_t size = snapshot.extra_data_size;
  if (size >= offsetof(RawSnapshotExtra, disk_size)) {
    snapshot.info.vm_state_size = raw.vm_state_size.get();
  }
  if (size >= offsetof(RawSnapshotExtra, icount)) snapshot.disk_size = raw.disk_size.get();
  constexpr uint64_t kNoIcount = std::numeric_limits<uint64_t>::max();
  if (size >= sizeof(RawSnapshotExtra) && raw.icount.get() != kNoIcount) {
    snapshot.info.icount = raw.icount.get();
  }
  if (size > sizeof(RawSnapshotExtra)) {
    const auto present = extra.first(std::min<size_t>(size, extra.size()));
    const auto unknown = bytes_from(present, sizeof(RawSnapshotExtra));
    snapshot.unknown_extra.assign(unknown.begin(), unknown.end());
    snapshot.unknown_extra.resize(size - sizeof(RawSnapshotExtra));
  }
}

}  // namespace

Result<SnapshotTable> parse_snapshot_table(std::span<const std::byte> table, uint32_t count,
                                           uint64_t virtual_size) {
  SnapshotTable parsed;
  uint64_t position = 0;
  for (uint32_t i = 0; i < count; ++i) {
    position = round_up(position, 8);
    const auto raw = load_struct<RawSnapshot>(bytes_from(table, position));
    position += sizeof(RawSnapshot);
    Snapshot snapshot;
    snapshot.l1_table_offset = HostOffset(raw.l1_table_offset.get());
    snapshot.l1_entries = raw.l1_size.get();
    snapshot.disk_size = virtual_size;
    snapshot.extra_data_size = raw.extra_data_size.get();
    snapshot.info.vm_state_size = raw.vm_state_size.get();
    snapshot.info.date_sec = raw.date_sec.get();
    snapshot.info.date_nsec = raw.date_nsec.get();
    snapshot.info.vm_clock_nsec = raw.vm_clock_nsec.get();
    if (snapshot.extra_data_size > kMaxSnapshotExtraBytes) {
      return Error(EFBIG, fmt::format("Too much extra metadata in snapshot table entry {}", i))
          .with_hint("You can force-remove this extra metadata with qemu-img check -r all");
    }
    take_extra_data(snapshot, bytes_from(table, position));
    position += snapshot.extra_data_size;
    snapshot.info.id = text_at(table, position, raw.id_length.get());
    position += raw.id_length.get();
    snapshot.info.name = text_at(table, position, raw.name_length.get());
    position += raw.name_length.get();
    if (position > kMaxSnapshotTableBytes) {
      return Error(EFBIG, "Snapshot table is too big")
          .with_hint(fmt::format("You can force-remove all {} overhanging snapshots with qemu-img "
                                 "check -r all",
                                 count - i));
    }
    parsed.snapshots.push_back(std::move(snapshot));
  }
  parsed.size = position;
  return parsed;
}

Task<Result<SnapshotTable>> read_snapshot_table(File& file, const Header& header) {
  if (header.snapshot_count == 0) co_return SnapshotTable();
  std::vector<std::byte> bytes;
  for (uint64_t want = kFirstReadBytes;; want *= 2) {
    bytes.resize(want);
    auto got = co_await file.read(header.snapshot_table_offset.bytes(), bytes);
    if (!got) co_return std::move(got).error().within("Failed to read snapshot table");
    const bool is_end_of_file = *got < want;
    bytes.resize(*got);
    CO_ASSIGN_OR_RETURN(SnapshotTable table,
                        parse_snapshot_table(bytes, header.snapshot_count, header.guest_size()));
    // An entry that is cut off counted as zeros, so that the size is then beyond what was read.
    if (is_end_of_file || table.size <= bytes.size()) co_return table;
  }
}

Task<Result<std::vector<L1Entry>>> read_snapshot_l1(File& file, const Header& header,
                                                    const Snapshot& snapshot) {
  CO_RETURN_IF_ERROR(check_snapshot_l1(snapshot, header));
  // Bounded to 32 MiB by the check. Behind the end of the file there are zeros.
  std::vector<std::byte> bytes(snapshot.l1_entries * kTableEntryBytes);
  CO_RETURN_IF_ERROR(co_await file.read(snapshot.l1_table_offset.bytes(), bytes));
  std::vector<L1Entry> l1;
  l1.reserve(snapshot.l1_entries);
  for (size_t i = 0; i < snapshot.l1_entries; ++i) {
    l1.emplace_back(load_be<uint64_t>(&bytes[i * kTableEntryBytes]));
  }
  co_return l1;
}

const Snapshot* find_snapshot(std::span<const Snapshot> snapshots, std::string_view id_or_name) {
  const auto by_id = std::ranges::find(
      snapshots, id_or_name, [](const Snapshot& s) -> std::string_view { return s.info.id; });
  if (by_id != snapshots.end()) return &*by_id;
  const auto by_name = std::ranges::find(
      snapshots, id_or_name, [](const Snapshot& s) -> std::string_view { return s.info.name; });
  return by_name != snapshots.end() ? &*by_name : nullptr;
}

Result<void> check_snapshot_l1(const Snapshot& snapshot, const Header& header) {
  if (snapshot.l1_entries > kMaxL1Bytes / kTableEntryBytes) {
    return Error(EFBIG, "Snapshot L1 table too large");
  }
  constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
  if (snapshot.l1_table_offset.bytes() > kMaxOffset - snapshot.l1_entries * kTableEntryBytes ||
      !is_cluster_aligned(snapshot.l1_table_offset, header.cluster_bits)) {
    return Error(EINVAL, "Snapshot L1 table offset invalid");
  }
  return ok();
}

}  // namespace imgconv::qcow2
