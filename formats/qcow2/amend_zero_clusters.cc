#include "formats/qcow2/amend_zero_clusters.h"

#include <fmt/format.h>

#include <cassert>
#include <optional>
#include <vector>

#include "formats/qcow2/corruption.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

struct LoadedTable {
  uint64_t offset = 0;
  std::vector<std::byte> bytes;

  L2Entry entry(uint64_t index) const {
    return L2Entry(load_be<uint64_t>(&bytes[index * kTableEntryBytes]));
  }
  void set_entry(uint64_t index, L2Entry entry) {
    store_be(&bytes[index * kTableEntryBytes], entry.raw());
  }
};

/// L1 tables of the image by number: 0 is the active one, then come those of the snapshots. One is
/// in memory at a time, as there may be many.
Task<Result<std::vector<L1Entry>>> read_l1_table(const Metadata& metadata,
                                                 std::span<const Snapshot> snapshots,
                                                 size_t number) {
  if (number == 0) {
    const std::span<const L1Entry> active = metadata.tables.l1();
    co_return std::vector<L1Entry>(active.begin(), active.end());
  }
  co_return co_await read_snapshot_l1(metadata.io.file(), metadata.header, snapshots[number - 1]);
}

Task<Result<LoadedTable>> read_l2(const Metadata& metadata, L1Entry entry) {
  LoadedTable table;
  table.offset = entry.table_offset().bytes();
  if (!is_aligned(table.offset, metadata.header.cluster_size())) {
    co_return corruption(fmt::format("L2 table offset {} unaligned", hex(table.offset)));
  }
  table.bytes.resize(metadata.header.cluster_size());
  CO_RETURN_IF_ERROR(co_await metadata.io.read_one(table.offset, table.bytes));
  co_return table;
}

/// Works on one L2 table: what it decides reaches the file in the order data, table, refcounts
/// down.
class ZeroExpansion {
 public:
  ZeroExpansion(Writer& writer, LoadedTable& table) : metadata_(writer.metadata()), table_(table) {}

  Task<Result<void>> run();

 private:
  Task<Result<void>> expand(uint64_t index, L2Entry entry);
  Task<Result<L2Entry>> allocate();
  Task<Result<void>> write_zeroes(uint64_t host_offset);
  uint64_t cluster_of(uint64_t host_offset) const {
    return host_offset >> metadata_.header.cluster_bits;
  }

  const Metadata metadata_;
  LoadedTable& table_;
  /// How many L1 entries lead to the table: so often is each of its clusters used.
  uint64_t table_uses_ = 0;
  bool has_changed_ = false;
  std::vector<uint64_t> replaced_clusters_;
};

Task<Result<void>> ZeroExpansion::run() {
  const L2Format format = metadata_.header.l2_format();
  CO_ASSIGN_OR_RETURN(table_uses_, co_await metadata_.refcounts.get(cluster_of(table_.offset)));
  for (uint64_t i = 0; i < metadata_.header.l2_entries(); ++i) {
    const L2Entry entry = table_.entry(i);
    const ClusterType type = entry.type(format);
    if (type == ClusterType::kZeroPlain || type == ClusterType::kZeroAllocated) {
      CO_RETURN_IF_ERROR(co_await expand(i, entry));
    }
  }
  if (!has_changed_) co_return ok();
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata_));
  CO_RETURN_IF_ERROR(co_await metadata_.io.write_one(table_.offset, table_.bytes));
  CO_RETURN_IF_ERROR(co_await barrier(metadata_));
  for (const uint64_t cluster : replaced_clusters_) {
    for (uint64_t i = 0; i < table_uses_; ++i) {
      CO_RETURN_IF_ERROR(co_await metadata_.allocator.release_unused({cluster, 1}));
    }
  }
  co_return ok();
}

Task<Result<void>> ZeroExpansion::expand(uint64_t index, L2Entry entry) {
  has_changed_ = true;
  const uint64_t host_offset = entry.host_offset().bytes();
  if (host_offset != 0) {
    if (!is_aligned(host_offset, metadata_.header.cluster_size())) {
      co_return corruption(
          fmt::format("Cluster allocation offset {} unaligned (L2 offset: {}, L2 index: {})",
                      hex(host_offset), hex(table_.offset), hex(index)));
    }
    CO_ASSIGN_OR_RETURN(const uint64_t uses,
                        co_await metadata_.refcounts.get(cluster_of(host_offset)));
    // Somebody else may show as data what reads as zeros here: then it stays as it is.
    if (uses == 1) {
      CO_RETURN_IF_ERROR(metadata_.allocator.check_unprotected({cluster_of(host_offset), 1}));
      CO_RETURN_IF_ERROR(co_await write_zeroes(host_offset));
      table_.set_entry(index, L2Entry::data(entry.host_offset(), Copied::kYes));
      co_return ok();
    }
    replaced_clusters_.push_back(cluster_of(host_offset));
  }
  L2Entry expanded;
  if (!metadata_.header.backing_file.empty()) {
    CO_ASSIGN_OR_RETURN(expanded, co_await allocate());
  }
  table_.set_entry(index, expanded);
  co_return ok();
}

Task<Result<L2Entry>> ZeroExpansion::allocate() {
  CO_ASSIGN_OR_RETURN(const AllocatedClusters added, co_await metadata_.allocator.allocate(1));
  for (uint64_t i = 1; i < table_uses_; ++i) {
    CO_RETURN_IF_ERROR(co_await metadata_.refcounts.increment(added.clusters));
  }
  const uint64_t host_offset = added.clusters.first << metadata_.header.cluster_bits;
  CO_RETURN_IF_ERROR(co_await write_zeroes(host_offset));
  co_return L2Entry::data(HostOffset(host_offset), table_uses_ == 1 ? Copied::kYes : Copied::kNo);
}

Task<Result<void>> ZeroExpansion::write_zeroes(uint64_t host_offset) {
  CO_RETURN_IF_ERROR(co_await metadata_.io.file().write_zeroes(
      host_offset, metadata_.header.cluster_size(), ZeroFlags()));
  co_return ok();
}

}  // namespace

Task<Result<void>> expand_zero_clusters(Writer& writer, std::span<const Snapshot> snapshots,
                                        const AmendRequest& request) {
  const Metadata metadata = writer.metadata();
  assert(!metadata.header.has_extended_l2());
  uint64_t total = metadata.tables.l1().size();
  uint64_t done = 0;
  for (const Snapshot& snapshot : snapshots) total += snapshot.l1_entries;
  for (size_t number = 0; number <= snapshots.size(); ++number) {
    CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1,
                        co_await read_l1_table(metadata, snapshots, number));
    for (const L1Entry entry : l1) {
      if (entry.has_table()) {
        CO_ASSIGN_OR_RETURN(LoadedTable table, co_await read_l2(metadata, entry));
        ZeroExpansion expansion(writer, table);
        CO_RETURN_IF_ERROR(co_await expansion.run());
      }
      if (request.progress) request.progress(++done, total);
    }
  }
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  metadata.tables.forget_tables();
  co_return ok();
}

Task<Result<bool>> has_compressed_clusters(const Metadata& metadata,
                                           std::span<const Snapshot> snapshots) {
  for (size_t number = 0; number <= snapshots.size(); ++number) {
    CO_ASSIGN_OR_RETURN(const std::vector<L1Entry> l1,
                        co_await read_l1_table(metadata, snapshots, number));
    for (const L1Entry entry : l1) {
      if (!entry.has_table()) continue;
      CO_ASSIGN_OR_RETURN(const LoadedTable table, co_await read_l2(metadata, entry));
      for (uint64_t i = 0; i < metadata.header.l2_entries(); ++i) {
        if (table.entry(i).is_compressed()) co_return true;
      }
    }
  }
  co_return false;
}

}  // namespace imgconv::qcow2
