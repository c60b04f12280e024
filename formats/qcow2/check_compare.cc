#include "formats/qcow2/check_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "formats/qcow2/check_references.h"
#include "formats/qcow2/refcount_width.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

void compare_one(CheckContext& context, HostCluster cluster, uint64_t stored,
                 HostCluster& highest) {
  const uint64_t found = context.counts.get(cluster);
  if (stored > 0 || found > 0) highest = cluster;
  if (stored == found) return;
  context.say(fmt::format("{} cluster {} refcount={} reference={}",
                          stored < found ? "ERROR" : "Leaked", cluster.index(), stored, found));
  ++(stored < found ? context.report.corruptions : context.report.leaks);
}

}  // namespace

Task<Result<bool>> StoredRefcounts::load_block_of(HostCluster cluster) {
  const Header& header = context_.header;
  const uint64_t index = cluster.index() / header.refcount_block_entries();
  if (loaded_index_ == index) co_return true;
  if (index >= table_.size() || !table_[index].has_block()) co_return false;
  const HostOffset offset = table_[index].block_offset();
  if (!is_cluster_aligned(offset, header.cluster_bits)) {
    if (!std::exchange(has_remarked_, true)) {
      // printf("%#x") leaves out the prefix of a zero.
      context_.say(fmt::format(
          "qcow2: Image is corrupt: Refblock offset {:#x} unaligned (reftable index: {}{:x}); "
          "further non-fatal corruption events will be suppressed",
          offset.bytes(), index == 0 ? "" : "0x", index));
    }
    co_return Error::from_errno(EIO);
  }
  loaded_index_.reset();
  CO_RETURN_IF_ERROR(co_await context_.read(offset, block_));
  loaded_index_ = index;
  co_return true;
}

uint64_t StoredRefcounts::loaded(HostCluster cluster) const {
  const Header& header = context_.header;
  return load_refcount(block_.data(), cluster.index() % header.refcount_block_entries(),
                       header.refcount_order);
}

Task<Result<uint64_t>> StoredRefcounts::get(HostCluster cluster) {
  CO_ASSIGN_OR_RETURN(const bool has_block, co_await load_block_of(cluster));
  co_return has_block ? loaded(cluster) : uint64_t{0};
}

Task<Result<void>> compare_refcounts(CheckContext& context, StoredRefcounts& stored) {
  const uint64_t block_entries = context.header.refcount_block_entries();
  HostCluster highest;
  for (uint64_t first = 0; first < context.cluster_count; first += block_entries) {
    const uint64_t end = std::min(first + block_entries, context.cluster_count);
    auto has_block = co_await stored.load_block_of(HostCluster(first));
    if (!has_block) {
      for (uint64_t i = first; i < end; ++i) {
        context.say(fmt::format("Can't get refcount for cluster {}: {}", i,
                                errno_text(has_block.error().code())));
        ++context.report.check_errors;
      }
      continue;
    }
    if (!*has_block && context.counts.is_surely_unreferenced(HostCluster(first), end - first)) {
      continue;
    }
    for (uint64_t i = first; i < end; ++i) {
      const HostCluster cluster(i);
      compare_one(context, cluster, *has_block ? stored.loaded(cluster) : 0, highest);
    }
  }
  context.report.image_end_offset =
      (highest + ClusterCount(1)).offset(context.header.cluster_bits).bytes();
  co_return ok();
}

namespace {

/// Copied bits of one L2 table, whose entries are in `table`.
Task<Result<void>> check_l2_copied_bits(CheckContext& context, StoredRefcounts& stored,
                                        std::span<const std::byte> table) {
  const L2Format format = context.header.l2_format();
  const uint64_t entries = context.header.l2_entries();
  for (uint64_t i = 0; i < entries; ++i) {
    const L2Entry entry = load_l2_entry(table, i, format.is_extended);
    const ClusterType type = entry.type(format);
    if (type != ClusterType::kNormal && type != ClusterType::kZeroAllocated) continue;
    uint64_t refcount = 1;
    if (!format.has_data_file) {
      const HostCluster cluster = containing_cluster(entry.host_offset(), format.cluster_bits);
      if (stored.has_loaded(cluster)) {
        refcount = stored.loaded(cluster);
      } else {
        auto found = co_await stored.get(cluster);
        if (!found) continue;  // compare_refcounts() reported it.
        refcount = *found;
      }
    }
    if ((refcount == 1) != entry.is_copied()) {
      context.corruption(fmt::format("ERROR OFLAG_COPIED data cluster: l2_entry={:x} refcount={}",
                                     entry.raw(), refcount));
    }
  }
  co_return ok();
}

}  // namespace

Task<Result<void>> check_copied_bits(CheckContext& context, StoredRefcounts& stored) {
  const Header& header = context.header;
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> l1,
                      co_await read_table(context, header.l1_table_offset, header.l1_entries));
  std::vector<std::byte> table(header.cluster_size());
  for (size_t i = 0; i < l1.size(); ++i) {
    const L1Entry entry(l1[i]);
    if (!entry.has_table()) continue;
    auto refcount =
        co_await stored.get(containing_cluster(entry.table_offset(), header.cluster_bits));
    if (!refcount) continue;  // compare_refcounts() reported it.
    if ((*refcount == 1) != entry.is_copied()) {
      context.corruption(
          fmt::format("ERROR OFLAG_COPIED L2 cluster: l1_index={} l1_entry={:x} refcount={}", i,
                      entry.raw(), *refcount));
    }
    auto read = co_await context.read(entry.table_offset(), table);
    if (!read) {
      context.say("ERROR: I/O error in check_oflag_copied");
      ++context.report.check_errors;
      co_return Error(read.error().code(), "");
    }
    CO_RETURN_IF_ERROR(co_await check_l2_copied_bits(context, stored, table));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
