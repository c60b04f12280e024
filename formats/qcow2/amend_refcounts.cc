#include "formats/qcow2/amend_refcounts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <vector>

#include "formats/qcow2/refcount_space.h"
#include "formats/qcow2/refcount_width.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// The new structures: blocks, then the table, behind `used_clusters`.
struct Plan {
  unsigned order = 0;
  uint64_t used_clusters = 0;
  RefcountSpace space;

  uint64_t table_cluster() const { return used_clusters + space.blocks; }
  uint64_t end_cluster() const { return table_cluster() + space.table_clusters; }
};

class WidthChange {
 public:
  WidthChange(Writer& writer, unsigned order,
              const std::function<void(uint64_t, uint64_t)>& progress)
      : writer_(writer), metadata_(writer.metadata()), order_(order), progress_(progress) {}

  Task<Result<void>> run();

 private:
  Task<Result<void>> make_plan();
  Task<Result<void>> check_counts();
  Task<Result<void>> write_blocks();
  Task<Result<void>> write_table();
  Task<Result<void>> switch_header();
  Task<Result<uint64_t>> new_count(uint64_t cluster);
  void report(uint64_t done) {
    if (progress_) progress_(done, 2 * plan_.used_clusters);
  }
  uint64_t max_count() const {
    return order_ == 6 ? std::numeric_limits<uint64_t>::max()
                       : (uint64_t{1} << (uint64_t{1} << order_)) - 1;
  }

  Writer& writer_;
  const Metadata metadata_;
  const unsigned order_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  Plan plan_;
  HostClusters old_table_;
  /// Ascending.
  std::vector<uint64_t> old_blocks_;
};

Task<Result<void>> WidthChange::run() {
  CO_RETURN_IF_ERROR(co_await make_plan());
  CO_RETURN_IF_ERROR(co_await check_counts());
  CO_RETURN_IF_ERROR(co_await write_blocks());
  CO_RETURN_IF_ERROR(co_await write_table());
  CO_RETURN_IF_ERROR(co_await barrier(metadata_));
  CO_RETURN_IF_ERROR(co_await switch_header());
  CO_RETURN_IF_ERROR(co_await writer_.reload_refcounts(plan_.end_cluster()));
  co_return ok();
}

Task<Result<void>> WidthChange::make_plan() {
  const Header& header = metadata_.header;
  CO_ASSIGN_OR_RETURN(const FileStat stat, metadata_.io.file().stat());
  const uint64_t file_clusters = clusters_for(stat.length, header.cluster_bits).value();
  CO_ASSIGN_OR_RETURN(plan_.used_clusters, co_await metadata_.refcounts.end_of_use(
                                               std::numeric_limits<uint64_t>::max()));
  // Counts of what the file does not have would be written out by the gigabyte for a hostile image.
  if (plan_.used_clusters > file_clusters + header.refcount_block_entries()) {
    co_return Error::from_errno(EFBIG);
  }
  plan_.order = order_;
  plan_.space = refcount_space(plan_.used_clusters, header.cluster_bits, order_);
  if (plan_.space.table_clusters > kMaxRefcountTableBytes >> header.cluster_bits ||
      plan_.end_cluster() > uint64_t{1} << (56 - header.cluster_bits)) {
    co_return Error::from_errno(EFBIG);
  }
  old_table_ = metadata_.refcounts.table_range();
  old_blocks_ = metadata_.refcounts.block_clusters();
  std::ranges::sort(old_blocks_);
  co_return ok();
}

Task<Result<uint64_t>> WidthChange::new_count(uint64_t cluster) {
  if (cluster >= plan_.used_clusters) co_return cluster < plan_.end_cluster() ? 1 : 0;
  CO_ASSIGN_OR_RETURN(const uint64_t count, co_await metadata_.refcounts.get(cluster));
  const bool is_old_structure = (cluster >= old_table_.first && cluster < old_table_.end()) ||
                                std::ranges::binary_search(old_blocks_, cluster);
  co_return is_old_structure&& count > 0 ? count - 1 : count;
}

Task<Result<void>> WidthChange::check_counts() {
  for (uint64_t cluster = 0; cluster < plan_.used_clusters; ++cluster) {
    CO_ASSIGN_OR_RETURN(const uint64_t count, co_await metadata_.refcounts.get(cluster));
    if (count > max_count()) {
      co_return Error(EINVAL,
                      fmt::format("Cannot decrease refcount entry width to {} bits: Cluster at "
                                  "offset {:#x} has a refcount of {}",
                                  1U << order_, cluster << metadata_.header.cluster_bits, count));
    }
    if (is_aligned(cluster, metadata_.refcounts.block_entries())) report(cluster);
  }
  co_return ok();
}

Task<Result<void>> WidthChange::write_blocks() {
  const Header& header = metadata_.header;
  const uint64_t entries = header.cluster_size() * 8 >> order_;
  std::vector<std::byte> block(header.cluster_size());
  for (uint64_t i = 0; i < plan_.space.blocks; ++i) {
    std::ranges::fill(block, std::byte{0});
    for (uint64_t j = 0; j < entries; ++j) {
      CO_ASSIGN_OR_RETURN(const uint64_t count, co_await new_count(i * entries + j));
      if (count != 0) store_refcount(block.data(), j, order_, count);
    }
    const uint64_t place = (plan_.used_clusters + i) << header.cluster_bits;
    CO_RETURN_IF_ERROR(co_await metadata_.io.write_one(place, block));
    report(plan_.used_clusters + std::min(plan_.used_clusters, i * entries));
  }
  co_return ok();
}

Task<Result<void>> WidthChange::write_table() {
  const unsigned bits = metadata_.header.cluster_bits;
  std::vector<std::byte> table(plan_.space.table_clusters << bits);
  for (uint64_t i = 0; i < plan_.space.blocks; ++i) {
    store_be(&table[i * kTableEntryBytes], (plan_.used_clusters + i) << bits);
  }
  CO_RETURN_IF_ERROR(co_await metadata_.io.write_one(plan_.table_cluster() << bits, table));
  co_return ok();
}

/// One write from the table's place to the width: it lies in the first sector.
Task<Result<void>> WidthChange::switch_header() {
  Header header = metadata_.header;
  header.refcount_order = order_;
  header.refcount_table_offset = HostOffset(plan_.table_cluster() << header.cluster_bits);
  header.refcount_table_clusters = static_cast<uint32_t>(plan_.space.table_clusters);
  CO_ASSIGN_OR_RETURN(const std::vector<std::byte> cluster0, header.serialize());
  constexpr size_t kBegin = offsetof(RawHeader, refcount_table_offset);
  constexpr size_t kEnd = offsetof(RawHeader, header_length);
  const std::span<const std::byte> bytes(cluster0);
  CO_RETURN_IF_ERROR(co_await metadata_.io.write_one(kBegin, bytes.subspan(kBegin, kEnd - kBegin)));
  CO_RETURN_IF_ERROR(co_await barrier(metadata_));
  metadata_.header = header;
  co_return ok();
}

}  // namespace

Task<Result<void>> change_refcount_width(
    Writer& writer, unsigned refcount_order,
    const std::function<void(uint64_t done, uint64_t total)>& progress) {
  WidthChange change(writer, refcount_order, progress);
  CO_RETURN_IF_ERROR(co_await change.run());
  co_return ok();
}

}  // namespace imgconv::qcow2
