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

bool may_repair_count(RepairMode mode, uint64_t stored, uint64_t found) {
  if (stored == 0) return false;  // The block itself may be missing: a case for a rebuild.
  return stored > found ? mode != RepairMode::kNone : mode == RepairMode::kAll;
}

void compare_one(CheckContext& context, StoredRefcounts& refcounts, HostCluster cluster,
                 uint64_t stored, RepairMode mode) {
  const uint64_t found = context.counts.get(cluster);
  if (stored == found) return;
  CheckReport& report = context.report;
  const bool is_leak = stored > found;
  const bool is_repaired = may_repair_count(mode, stored, found);
  if (stored == 0) context.needs_rebuild = true;
  context.say(fmt::format("{} cluster {} refcount={} reference={}",
                          is_repaired ? "Repairing"
                          : is_leak   ? "Leaked"
                                      : "ERROR",
                          cluster.index(), stored, found));
  if (is_repaired) {
    refcounts.set_loaded(cluster, found);
    ++(is_leak ? report.leaks_fixed : report.corruptions_fixed);
  } else {
    ++(is_leak ? report.leaks : report.corruptions);
  }
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

void StoredRefcounts::set_loaded(HostCluster cluster, uint64_t count) {
  const Header& header = context_.header;
  store_refcount(block_.data(), cluster.index() % header.refcount_block_entries(),
                 header.refcount_order, count);
  is_changed_ = true;
}

Task<Result<void>> StoredRefcounts::write_block() {
  if (!is_changed_) co_return ok();
  CO_RETURN_IF_ERROR(co_await context_.write(table_[*loaded_index_].block_offset(), block_));
  is_changed_ = false;
  co_return ok();
}

Task<Result<uint64_t>> StoredRefcounts::get(HostCluster cluster) {
  CO_ASSIGN_OR_RETURN(const bool has_block, co_await load_block_of(cluster));
  co_return has_block ? loaded(cluster) : uint64_t{0};
}

Task<Result<void>> compare_refcounts(CheckContext& context, StoredRefcounts& stored,
                                     RepairMode mode) {
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
      const uint64_t count = *has_block ? stored.loaded(cluster) : 0;
      if (count > 0 || context.counts.get(cluster) > 0) highest = cluster;
      compare_one(context, stored, cluster, count, mode);
    }
    CO_RETURN_IF_ERROR(co_await stored.write_block());
  }
  context.report.image_end_offset =
      (highest + ClusterCount(1)).offset(context.header.cluster_bits).bytes();
  co_return ok();
}

}  // namespace imgconv::qcow2
