#include "formats/qcow2/repair_rebuild.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount_width.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// QEMU checks no larger files.
constexpr uint64_t kMaxClusters = std::numeric_limits<int32_t>::max();

class RefcountRebuild {
 public:
  explicit RefcountRebuild(CheckContext& context)
      : context_(context),
        header_(context.header),
        block_entries_(header_.refcount_block_entries()),
        file_clusters_(context.cluster_count),
        cluster_count_(context.cluster_count) {}

  /// Decides where everything goes, as QEMU does: each block in the first free cluster of, or
  /// behind, the range it counts, then the table in the first gap that holds it.
  Result<void> place();
  Task<Result<void>> write();

  HostCluster table_cluster() const { return HostCluster(table_first_); }
  uint64_t table_clusters() const {
    return clusters_for(table_.size() * kTableEntryBytes, header_.cluster_bits).value();
  }

 private:
  bool has_references(uint64_t first, uint64_t end) const;
  bool is_free(uint64_t cluster) const { return context_.counts.get(HostCluster(cluster)) == 0; }
  Result<uint64_t> find_free(uint64_t from, uint64_t clusters) const;
  void take(uint64_t first, uint64_t clusters);
  Result<void> place_blocks(uint64_t first, uint64_t end);
  Task<Result<void>> write_block(uint64_t block_index);

  CheckContext& context_;
  const Header& header_;
  const uint64_t block_entries_;
  const uint64_t file_clusters_;
  /// With what was placed behind the end of the file.
  uint64_t cluster_count_;
  /// Host cluster of each block; 0: there is none, since cluster 0 is the header's. Whole clusters
  /// of entries.
  std::vector<uint64_t> table_;
  uint64_t table_first_ = 0;
  /// No block goes below, so that blocks are found without searching from the beginning each time.
  uint64_t first_candidate_ = 1;
};

bool RefcountRebuild::has_references(uint64_t first, uint64_t end) const {
  if (context_.counts.is_surely_unreferenced(HostCluster(first), end - first)) return false;
  for (uint64_t cluster = first; cluster < end; ++cluster) {
    if (!is_free(cluster)) return true;
  }
  return false;
}

Result<uint64_t> RefcountRebuild::find_free(uint64_t from, uint64_t clusters) const {
  const unsigned bits = header_.cluster_bits;
  uint64_t first = from;
  for (uint64_t cluster = from; cluster < first + clusters; ++cluster) {
    const bool is_beyond_file = cluster >= file_clusters_;
    if (cluster >= kMaxClusters || (is_beyond_file && context_.has_lost_track)) {
      return Error::from_errno(EFBIG, "ERROR allocating refblock");
    }
    if (!is_free(cluster)) {
      first = cluster + 1;
    } else {
      // Of tables that are not whole, the part inside the file is not counted either.
      const HostOffset offset = HostCluster(cluster).offset(bits);
      const auto taken = context_.beyond_file.find_end(offset, header_.cluster_size());
      if (!taken) continue;
      first = clusters_for(*taken, bits).value();
      cluster = first - 1;
    }
  }
  return first;
}

void RefcountRebuild::take(uint64_t first, uint64_t clusters) {
  for (uint64_t cluster = first; cluster < first + clusters; ++cluster) {
    context_.counts.increment(HostCluster(cluster));
  }
  cluster_count_ = std::max(cluster_count_, first + clusters);
}

Result<void> RefcountRebuild::place_blocks(uint64_t first, uint64_t end) {
  const uint64_t entries_per_cluster = header_.cluster_size() / kTableEntryBytes;
  for (uint64_t index = first / block_entries_; index * block_entries_ < end; ++index) {
    const uint64_t start = index * block_entries_;
    if (index < table_.size() && table_[index] != 0) continue;
    if (!has_references(start, std::min(start + block_entries_, cluster_count_))) continue;
    if (index >= kMaxRefcountTableBytes / kTableEntryBytes) {
      return Error::from_errno(EFBIG, "ERROR allocating reftable");
    }
    if (index >= table_.size()) table_.resize(round_up(index + 1, entries_per_cluster));
    ASSIGN_OR_RETURN(first_candidate_, find_free(std::max(first_candidate_, start), 1));
    table_[index] = first_candidate_;
    take(table_[index], 1);
    // The block itself must be counted.
    end = std::max(end, table_[index] + 1);
  }
  return ok();
}

Result<void> RefcountRebuild::place() {
  RETURN_IF_ERROR(place_blocks(0, cluster_count_));
  while (true) {
    const uint64_t clusters = table_clusters();
    ASSIGN_OR_RETURN(table_first_, find_free(1, clusters));
    take(table_first_, clusters);
    RETURN_IF_ERROR(place_blocks(table_first_, table_first_ + clusters));
    if (table_clusters() == clusters) return ok();
    // What counts the table made it longer, so that it needs another place.
    context_.counts.remove(HostCluster(table_first_), clusters);
  }
}

Task<Result<void>> RefcountRebuild::write_block(uint64_t block_index) {
  std::vector<std::byte> block(header_.cluster_size());
  const uint64_t start = block_index * block_entries_;
  const uint64_t end = std::min(start + block_entries_, cluster_count_);
  for (uint64_t cluster = start; cluster < end; ++cluster) {
    store_refcount(block.data(), cluster - start, header_.refcount_order,
                   context_.counts.get(HostCluster(cluster)));
  }
  const HostOffset offset = HostCluster(table_[block_index]).offset(header_.cluster_bits);
  auto written = co_await context_.write(offset, block);
  if (!written) co_return std::move(written).error().within("ERROR writing refblock");
  co_return ok();
}

Task<Result<void>> RefcountRebuild::write() {
  std::vector<std::byte> bytes(table_clusters() << header_.cluster_bits);
  for (uint64_t index = 0; index < table_.size(); ++index) {
    if (table_[index] == 0) continue;
    CO_RETURN_IF_ERROR(co_await write_block(index));
    store_be(&bytes[index * kTableEntryBytes], table_[index] << header_.cluster_bits);
  }
  auto written = co_await context_.write(table_cluster().offset(header_.cluster_bits), bytes);
  if (!written) co_return std::move(written).error().within("ERROR writing reftable");
  co_return ok();
}

}  // namespace

Task<Result<void>> rebuild_refcounts(CheckContext& context, Header& header) {
  RefcountRebuild rebuild(context);
  CO_RETURN_IF_ERROR(rebuild.place());
  CO_RETURN_IF_ERROR(co_await rebuild.write());
  CO_RETURN_IF_ERROR(co_await context.flush());
  const HostOffset offset = rebuild.table_cluster().offset(header.cluster_bits);
  const auto clusters = static_cast<uint32_t>(rebuild.table_clusters());
  std::array<std::byte, 12> pointer;
  static_assert(offsetof(RawHeader, refcount_table_clusters) ==
                offsetof(RawHeader, refcount_table_offset) + 8);
  store_be(pointer.data(), offset.bytes());
  store_be(pointer.data() + 8, clusters);
  auto written =
      co_await context.write(HostOffset(offsetof(RawHeader, refcount_table_offset)), pointer);
  if (written) written = co_await context.flush();
  if (!written) co_return std::move(written).error().within("ERROR setting reftable");
  header.refcount_table_offset = offset;
  header.refcount_table_clusters = clusters;
  co_return ok();
}

}  // namespace imgconv::qcow2
