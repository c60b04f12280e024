#include "formats/qcow2/check_references.h"

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/check_bitmaps.h"
#include "formats/qcow2/check_tables.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

Task<Result<void>> count_snapshots(CheckContext& context, TableCounter& tables,
                                   const SnapshotTable& table) {
  if (context.header.has_data_file() && !table.snapshots.empty()) {
    context.corruption(
        fmt::format("ERROR {} snapshots in image with data file", table.snapshots.size()));
  }
  for (const Snapshot& snapshot : table.snapshots) {
    const auto complain = [&](const std::string& what) {
      context.corruption(fmt::format("ERROR snapshot {} ({}) {}; snapshot table entry corrupted",
                                     snapshot.info.id, snapshot.info.name, what));
    };
    if (!is_cluster_aligned(snapshot.l1_table_offset, context.header.cluster_bits)) {
      complain(fmt::format("l1_offset={:#x}: L1 table is not cluster aligned",
                           snapshot.l1_table_offset.bytes()));
      continue;
    }
    if (snapshot.l1_entries > kMaxL1Bytes / kTableEntryBytes) {
      complain(fmt::format("l1_size={:#x}: L1 table is too large", snapshot.l1_entries));
      continue;
    }
    CO_RETURN_IF_ERROR(
        co_await tables.count_snapshot_l1(snapshot.l1_table_offset, snapshot.l1_entries));
  }
  co_return ok();
}

/// A block behind the end of the file counts nothing that could be kept. QEMU makes the file longer
/// to hold it, and then rebuilds all blocks all the same: here the file stays as long as it is.
void count_block_outside(CheckContext& context, size_t index) {
  if (!context.may_repair_errors()) {
    context.corruption(fmt::format("ERROR refcount block {} is outside image", index));
    return;
  }
  context.corruption(fmt::format("Repairing refcount block {} is outside image", index));
  context.needs_rebuild = true;
}

void count_refcount_blocks(CheckContext& context, std::span<const RefcountTableEntry> table) {
  const Header& header = context.header;
  for (size_t i = 0; i < table.size(); ++i) {
    const RefcountTableEntry entry = table[i];
    if (entry.reserved_bits() != 0) {
      context.corruption(fmt::format("ERROR refcount table entry {} has reserved bits set", i));
      context.needs_rebuild = true;
      continue;
    }
    if (!entry.has_block()) continue;
    const HostOffset offset = entry.block_offset();
    const std::optional<HostCluster> cluster = cluster_if_aligned(offset, header.cluster_bits);
    if (!cluster) {
      context.corruption(fmt::format(
          "ERROR refcount block {} is not cluster aligned; refcount table entry corrupted", i));
      context.needs_rebuild = true;
      continue;
    }
    if (cluster->index() >= context.cluster_count) {
      count_block_outside(context, i);
      continue;
    }
    context.add_references(offset, header.cluster_size());
    if (const uint64_t count = context.counts.get(*cluster); count != 1) {
      context.corruption(fmt::format("ERROR refcount block {} refcount={}", i, count));
      context.needs_rebuild = true;
    }
  }
}

}  // namespace

L2Entry load_l2_entry(std::span<const std::byte> table, uint64_t index, bool is_extended) {
  if (!is_extended) return L2Entry(load_be<uint64_t>(&table[index * 8]));
  return L2Entry(load_be<uint64_t>(&table[index * 16]),
                 SubclusterBitmap(load_be<uint64_t>(&table[index * 16 + 8])));
}

Task<Result<std::vector<uint64_t>>> read_table(CheckContext& context, HostOffset offset,
                                               uint64_t entries) {
  std::vector<uint64_t> table(entries);
  CO_RETURN_IF_ERROR(co_await context.read(offset, std::as_writable_bytes(std::span(table))));
  for (uint64_t& entry : table) entry = be_to_host(entry);
  co_return table;
}

Task<Result<bool>> count_references(CheckContext& context, const SnapshotTable& snapshots,
                                    std::span<const RefcountTableEntry> refcount_table) {
  const Header& header = context.header;
  context.add_references(HostOffset(0), header.cluster_size());
  TableCounter tables(context);
  CO_RETURN_IF_ERROR(co_await tables.count_active_l1());
  CO_RETURN_IF_ERROR(co_await count_snapshots(context, tables, snapshots));
  CO_RETURN_IF_ERROR(co_await tables.count_postponed());
  const bool has_table_inside =
      context.add_references(header.snapshot_table_offset, snapshots.size);
  context.add_references(header.refcount_table_offset,
                         uint64_t{header.refcount_table_clusters} << header.cluster_bits);
  if (header.extensions.crypto) {
    context.add_references(header.extensions.crypto->offset, header.extensions.crypto->length);
  }
  CO_RETURN_IF_ERROR(co_await count_bitmaps(context));
  count_refcount_blocks(context, refcount_table);
  co_return has_table_inside;
}

}  // namespace imgconv::qcow2
