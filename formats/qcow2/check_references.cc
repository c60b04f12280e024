#include "formats/qcow2/check_references.h"

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/check_bitmaps.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Only the active tables make the statistics of `check`.
enum class Statistics : bool { kNo, kYes };

/// One table is the unit in which QEMU looks for fragments.
struct L2Walk {
  CheckContext& context;
  Statistics statistics;
  std::optional<uint64_t> next_contiguous;
};

void count_compressed(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const unsigned bits = context.header.cluster_bits;
  const CompressedLocation location = entry.compressed_location(bits);
  uint64_t raw = entry.raw();
  if (entry.is_copied()) {
    context.corruption(
        fmt::format("ERROR: coffset={:#x}: copied flag must never be set for compressed clusters",
                    location.offset.bytes()));
    raw &= ~kCopiedBit;
  }
  if (context.header.has_data_file()) {
    context.corruption(
        fmt::format("ERROR compressed cluster {} with data file, entry={:#x}", index, raw));
    return;
  }
  if (entry.bitmap().raw() != 0) {
    context.corruption(fmt::format(
        "ERROR compressed cluster {} with non-zero subcluster allocation bitmap, entry={:#x}",
        index, raw));
    return;
  }
  context.add_references(location.offset, location.length);
  if (walk.statistics == Statistics::kYes) {
    ++context.report.allocated_clusters;
    ++context.report.compressed_clusters;
    ++context.report.fragmented_clusters;
  }
}

void count_allocated(L2Walk& walk, const L2Entry& entry) {
  CheckContext& context = walk.context;
  const Header& header = context.header;
  const HostOffset offset = entry.host_offset();
  if (entry.bitmap().has_contradiction()) {
    context.corruption(fmt::format(
        "ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap",
        offset.bytes()));
  }
  if (!is_cluster_aligned(offset, header.cluster_bits)) {
    const bool has_data = header.has_extended_l2() ? entry.bitmap().allocated_mask() != 0
                                                   : (entry.raw() & kZeroBit) == 0;
    context.corruption(
        fmt::format("ERROR offset={:x}: {} cluster is not properly aligned; L2 entry corrupted.",
                    offset.bytes(), has_data ? "Data" : "Preallocated"));
  }
  if (walk.statistics == Statistics::kYes) {
    ++context.report.allocated_clusters;
    if (walk.next_contiguous && *walk.next_contiguous != 0 &&
        offset.bytes() != *walk.next_contiguous) {
      ++context.report.fragmented_clusters;
    }
    walk.next_contiguous = offset.bytes() + header.cluster_size();
  }
  if (!header.has_data_file()) context.add_references(offset, header.cluster_size());
}

void count_l2_entry(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const ClusterType type = entry.type(context.header.l2_format());
  if (type != ClusterType::kCompressed && entry.reserved_bits() != 0) {
    context.corruption(
        fmt::format("ERROR found l2 entry with reserved bits set: {:x}", entry.raw()));
  }
  switch (type) {
    case ClusterType::kCompressed:
      count_compressed(walk, entry, index);
      return;
    case ClusterType::kZeroAllocated:
    case ClusterType::kNormal:
      count_allocated(walk, entry);
      return;
    case ClusterType::kUnallocated:
      if (entry.bitmap().allocated_mask() != 0) {
        context.corruption("ERROR: Unallocated cluster has non-zero subcluster allocation map");
      }
      return;
    case ClusterType::kZeroPlain:
      return;
  }
}

Task<Result<void>> count_l2(CheckContext& context, HostOffset l2_offset, Statistics statistics,
                            std::span<std::byte> buffer) {
  auto read = co_await context.read(l2_offset, buffer);
  if (!read) {
    context.say("ERROR: I/O error in check_refcounts_l2");
    co_return Error(read.error().code(), "");
  }
  L2Walk walk{context, statistics, {}};
  const uint64_t entries = context.header.l2_entries();
  const bool is_extended = context.header.has_extended_l2();
  for (uint64_t i = 0; i < entries; ++i) {
    const L2Entry entry = load_l2_entry(buffer, i, is_extended);
    if (entry.raw() != 0 || entry.bitmap().raw() != 0) count_l2_entry(walk, entry, i);
  }
  co_return ok();
}

Task<Result<void>> count_l1(CheckContext& context, HostOffset l1_offset, uint32_t l1_entries,
                            Statistics statistics) {
  if (l1_entries == 0) co_return ok();
  context.add_references(l1_offset, l1_entries * kTableEntryBytes);
  auto l1 = co_await read_table(context, l1_offset, l1_entries);
  if (!l1) {
    context.say("ERROR: I/O error in check_refcounts_l1");
    co_return Error(l1.error().code(), "");
  }
  std::vector<std::byte> buffer(context.header.cluster_size());
  for (const uint64_t raw : *l1) {
    if (raw == 0) continue;
    const L1Entry entry(raw);
    if (entry.reserved_bits() != 0) {
      context.corruption(fmt::format("ERROR found L1 entry with reserved bits set: {:x}", raw));
    }
    const HostOffset l2_offset = entry.table_offset();
    context.add_references(l2_offset, context.header.cluster_size());
    if (!is_cluster_aligned(l2_offset, context.header.cluster_bits)) {
      context.corruption(
          fmt::format("ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted",
                      l2_offset.bytes()));
    }
    CO_RETURN_IF_ERROR(co_await count_l2(context, l2_offset, statistics, buffer));
  }
  co_return ok();
}

Task<Result<void>> count_snapshots(CheckContext& context, const SnapshotTable& table) {
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
        co_await count_l1(context, snapshot.l1_table_offset, snapshot.l1_entries, Statistics::kNo));
  }
  context.add_references(context.header.snapshot_table_offset, table.size);
  co_return ok();
}

void count_refcount_blocks(CheckContext& context, std::span<const RefcountTableEntry> table) {
  const Header& header = context.header;
  for (size_t i = 0; i < table.size(); ++i) {
    const RefcountTableEntry entry = table[i];
    if (entry.reserved_bits() != 0) {
      context.corruption(fmt::format("ERROR refcount table entry {} has reserved bits set", i));
      continue;
    }
    if (!entry.has_block()) continue;
    const HostOffset offset = entry.block_offset();
    const std::optional<HostCluster> cluster = cluster_if_aligned(offset, header.cluster_bits);
    if (!cluster) {
      context.corruption(fmt::format(
          "ERROR refcount block {} is not cluster aligned; refcount table entry corrupted", i));
      continue;
    }
    if (cluster->index() >= context.cluster_count) {
      context.corruption(fmt::format("ERROR refcount block {} is outside image", i));
      continue;
    }
    context.add_references(offset, header.cluster_size());
    if (const uint64_t count = context.counts.get(*cluster); count != 1) {
      context.corruption(fmt::format("ERROR refcount block {} refcount={}", i, count));
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

Task<Result<void>> count_references(CheckContext& context, File& file,
                                    const SnapshotTable& snapshots,
                                    std::span<const RefcountTableEntry> refcount_table) {
  const Header& header = context.header;
  context.add_references(HostOffset(0), header.cluster_size());
  CO_RETURN_IF_ERROR(
      co_await count_l1(context, header.l1_table_offset, header.l1_entries, Statistics::kYes));
  CO_RETURN_IF_ERROR(co_await count_snapshots(context, snapshots));
  context.add_references(header.refcount_table_offset,
                         uint64_t{header.refcount_table_clusters} << header.cluster_bits);
  if (header.extensions.crypto) {
    context.add_references(header.extensions.crypto->offset, header.extensions.crypto->length);
  }
  CO_RETURN_IF_ERROR(co_await count_bitmaps(context, file));
  count_refcount_blocks(context, refcount_table);
  co_return ok();
}

}  // namespace imgconv::qcow2
