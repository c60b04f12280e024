#include "formats/qcow2/allocator.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "formats/qcow2/corruption.h"
#include "formats/qcow2/refcount_space.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// Ours: 256 KiB of ranges, after which writing waits for the medium once.
constexpr size_t kManyReleased = 16384;

}  // namespace

Allocator::Allocator(Refcounts& refcounts, unsigned cluster_bits, FileFacts file)
    : refcounts_(refcounts),
      cluster_bits_(cluster_bits),
      extends_with_zeros_(file.extends_with_zeros),
      frees_late_(file.frees_late),
      high_water_(clusters_for(file.length, cluster_bits).value()) {}

Task<Result<AllocatedClusters>> Allocator::allocate(uint64_t clusters, std::string_view use) {
  assert(clusters > 0);
  const uint64_t untouched_from = high_water_;
  for (;;) {
    CO_ASSIGN_OR_RETURN(const HostClusters run, co_await take_free(clusters));
    const std::optional<uint64_t> uncounted = first_uncounted(run);
    if (!uncounted) {
      CO_RETURN_IF_ERROR(check_place(run, use));
      CO_RETURN_IF_ERROR(co_await refcounts_.increment(run));
      const bool is_new_space = run.first >= untouched_from && extends_with_zeros_;
      note_use(run);
      co_return AllocatedClusters{run, is_new_space};
    }
    CO_RETURN_IF_ERROR(co_await add_block(*uncounted));
    // The block may stand where the run was to be: once more from there, as QEMU does.
    first_candidate_ = std::min(first_candidate_, run.first);
  }
}

Task<Result<HostClusters>> Allocator::allocate_contiguous(uint64_t clusters) {
  CO_ASSIGN_OR_RETURN(const AllocatedClusters added, co_await allocate(clusters));
  co_return added.clusters;
}

Task<Result<HostClusters>> Allocator::take_free(uint64_t clusters) {
  for (;;) {
    CO_ASSIGN_OR_RETURN(const HostClusters run,
                        co_await refcounts_.find_free(first_candidate_, clusters));
    const std::optional<uint64_t> avoided = end_of_avoided_ ? end_of_avoided_(run) : std::nullopt;
    first_candidate_ = avoided.value_or(run.end());
    if (!avoided) co_return run;
  }
}

Result<void> Allocator::check_place(HostClusters range, std::string_view use) const {
  if (range.first == 0 && !use.empty()) {
    return corruption(fmt::format("Preventing invalid allocation of {} at offset 0", use));
  }
  return check_unprotected(range);
}

Result<void> Allocator::check_unprotected(HostClusters range,
                                          std::optional<MetadataKind> allowed) const {
  // Host offsets have 56 bits (QCOW2.md 3).
  if (range.end() > uint64_t{1} << (56 - cluster_bits_)) {
    return Error::from_errno(EFBIG);
  }
  const std::optional<MetadataKind> kind = protected_.find(range, allowed);
  if (!kind) return ok();
  return corruption(
      fmt::format("Preventing invalid write on metadata (overlaps with {})", metadata_name(*kind)));
}

bool Allocator::may_release(HostClusters range, std::optional<MetadataKind> expected) const {
  const Result<void> is_unprotected = check_unprotected(range, expected);
  if (is_unprotected) return true;
  if (remark_) remark_("qcow2_free_clusters failed: " + errno_text(is_unprotected.error().code()));
  return false;
}

void Allocator::note_use(HostClusters range) { high_water_ = std::max(high_water_, range.end()); }

std::optional<uint64_t> Allocator::first_uncounted(HostClusters range) const {
  const uint64_t entries = refcounts_.block_entries();
  for (uint64_t block = range.first / entries; block <= (range.end() - 1) / entries; ++block) {
    if (!refcounts_.has_block(block)) return std::max(range.first, block * entries);
  }
  return std::nullopt;
}

Task<Result<void>> Allocator::add_block(uint64_t uncounted_cluster) {
  const uint64_t entries = refcounts_.block_entries();
  const uint64_t block_index = uncounted_cluster / entries;
  CO_ASSIGN_OR_RETURN(const HostClusters place, co_await take_free(1));
  if (place.first / entries != block_index && first_uncounted(place)) {
    // Its own count comes first; then the caller looks again.
    CO_RETURN_IF_ERROR(co_await add_block(place.first));
    co_return ok();
  }
  CO_RETURN_IF_ERROR(check_place(place, "refcount block"));
  CO_RETURN_IF_ERROR(co_await refcounts_.add_block(block_index, place.first));
  CO_RETURN_IF_ERROR(co_await refcounts_.increment(place));
  note_use(place);
  ++added_blocks_;
  if (!refcounts_.is_table_full()) co_return ok();
  const uint64_t last_used = std::max(uncounted_cluster + 1, place.first);
  CO_RETURN_IF_ERROR(co_await move_table(round_up(last_used, entries), 0, true));
  co_return ok();
}

Task<Result<uint64_t>> Allocator::move_table(uint64_t start, uint64_t further_clusters,
                                             bool leaves_room) {
  const uint64_t entries = refcounts_.block_entries();
  const uint64_t entries_per_cluster = (uint64_t{1} << cluster_bits_) / kTableEntryBytes;
  uint64_t others = start + further_clusters;
  RefcountSpace space = refcount_space(others, cluster_bits_, refcounts_.order());
  if (leaves_room) {
    others += div_round_up(space.table_clusters, 2);
    space = refcount_space(others, cluster_bits_, refcounts_.order());
  }
  const uint64_t blocks = space.blocks;
  const uint64_t table_entries = leaves_room ? blocks + div_round_up(blocks, 2) : blocks;
  const uint64_t table_clusters = div_round_up(table_entries, entries_per_cluster);
  if (table_clusters > kMaxRefcountTableBytes >> cluster_bits_) {
    co_return Error::from_errno(EFBIG);
  }
  // New blocks first, then the table; the blocks count all of it.
  HostClusters area{start, 0};
  for (uint64_t block = start / entries; block < blocks; ++block) {
    if (refcounts_.has_block(block)) continue;
    CO_RETURN_IF_ERROR(check_unprotected({area.end(), 1}));
    CO_RETURN_IF_ERROR(co_await refcounts_.add_block(block, area.end()));
    ++area.clusters;
  }
  const HostClusters table{area.end(), table_clusters};
  area.clusters += table_clusters;
  CO_RETURN_IF_ERROR(check_unprotected(area));
  // Only where rounding left the last of the table behind the last block.
  while (const std::optional<uint64_t> uncounted = first_uncounted(area)) {
    const uint64_t block = *uncounted / entries;
    CO_RETURN_IF_ERROR(co_await refcounts_.add_block(block, area.end()));
    ++area.clusters;
  }
  CO_RETURN_IF_ERROR(co_await refcounts_.increment(area));
  note_use(area);
  const HostClusters old = refcounts_.table_range();
  refcounts_.move_table(table);
  protected_.add(table, MetadataKind::kRefcountTable);
  protected_.remove(old);
  if (frees_late_) {
    old_tables_.push_back(old);
  } else {
    CO_RETURN_IF_ERROR(co_await refcounts_.flush());
    CO_RETURN_IF_ERROR(co_await release_unused(old));
  }
  co_return area.end();
}

Task<Result<void>> Allocator::take(HostClusters range) {
  CO_RETURN_IF_ERROR(check_unprotected(range));
  CO_RETURN_IF_ERROR(co_await refcounts_.increment(range));
  note_use(range);
  co_return ok();
}

Task<Result<uint64_t>> Allocator::allocate_bytes(uint64_t bytes) {
  const uint64_t cluster_size = uint64_t{1} << cluster_bits_;
  assert(bytes > 0 && bytes < cluster_size);
  uint64_t offset = next_free_byte_;
  if (offset != 0) {
    CO_ASSIGN_OR_RETURN(const uint64_t count, co_await refcounts_.get(offset >> cluster_bits_));
    if (count == refcounts_.max_count()) offset = 0;
  }
  const uint64_t room = cluster_size - offset % cluster_size;
  if (offset != 0 && room >= bytes) {
    CO_RETURN_IF_ERROR(co_await refcounts_.increment({offset >> cluster_bits_, 1}));
  } else {
    const uint64_t blocks_before = added_blocks_;
    CO_ASSIGN_OR_RETURN(const AllocatedClusters added, co_await allocate(1, "compressed cluster"));
    const uint64_t added_offset = added.clusters.first << cluster_bits_;
    // QEMU forgets the old cluster when it had to add a block.
    const bool goes_on = offset != 0 && added_blocks_ == blocks_before;
    if (goes_on && round_up(offset, cluster_size) == added_offset) {
      // The stream straddles the boundary: it begins in the old cluster, too.
      CO_RETURN_IF_ERROR(co_await refcounts_.increment({offset >> cluster_bits_, 1}));
    } else {
      offset = added_offset;
    }
  }
  next_free_byte_ = offset + bytes;
  if (next_free_byte_ % cluster_size == 0) next_free_byte_ = 0;
  co_return offset;
}

void Allocator::restart(uint64_t end_cluster) {
  protected_.clear();
  first_candidate_ = 0;
  next_free_byte_ = 0;
  high_water_ = std::max(high_water_, end_cluster);
}

Task<Result<void>> Allocator::release(HostClusters range) {
  if (!frees_late_) {
    CO_RETURN_IF_ERROR(co_await free(range));
    co_return ok();
  }
  if (!released_.empty() && released_.back().end() == range.first) {
    released_.back().clusters += range.clusters;
  } else {
    released_.push_back(range);
  }
  co_return ok();
}

bool Allocator::has_many_released() const { return released_.size() >= kManyReleased; }

Task<Result<void>> Allocator::free_released() {
  const std::vector<HostClusters> ranges = std::exchange(released_, {});
  for (const HostClusters range : ranges) {
    CO_RETURN_IF_ERROR(co_await free(range));
  }
  co_return ok();
}

Task<Result<void>> Allocator::free(HostClusters range) {
  const Result<bool> freed = co_await release_unused(range);
  if (freed) co_return ok();
  // A count is too low for those who use the cluster. Nothing of theirs is harmed by that.
  const int code = freed.error().code();
  const bool is_miscounted = code == EINVAL || code == EAGAIN || code == EFBIG;
  if (!is_miscounted) co_return Error(freed.error());
  if (remark_) remark_("qcow2_free_clusters failed: " + errno_text(code));
  co_return ok();
}

Task<Result<bool>> Allocator::release_unused(HostClusters range) {
  CO_ASSIGN_OR_RETURN(const bool became_free, co_await refcounts_.decrement(range));
  if (became_free) first_candidate_ = std::min(first_candidate_, range.first);
  // A freed cluster must not take another stream.
  const uint64_t packing_cluster = next_free_byte_ >> cluster_bits_;
  if (packing_cluster >= range.first && packing_cluster < range.end()) next_free_byte_ = 0;
  co_return became_free;
}

Task<Result<void>> Allocator::release_bytes(uint64_t host_offset, uint64_t length) {
  const uint64_t first = host_offset >> cluster_bits_;
  const uint64_t end = clusters_for(host_offset + length, cluster_bits_).value();
  CO_RETURN_IF_ERROR(co_await release({first, end - first}));
  co_return ok();
}

Task<Result<void>> Allocator::flush() {
  CO_RETURN_IF_ERROR(co_await refcounts_.flush());
  // The header names the new table now.
  const std::vector<HostClusters> old_tables = std::exchange(old_tables_, {});
  for (const HostClusters& range : old_tables) {
    CO_RETURN_IF_ERROR(co_await release(range));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
