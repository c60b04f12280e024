#include "formats/qcow2/allocator.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "formats/qcow2/corruption.h"
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

void Allocator::unprotect(HostClusters range) {
  std::erase_if(protected_, [range](const HostClusters& taken) {
    return taken.first == range.first && taken.clusters == range.clusters;
  });
}

void Allocator::protect_tables(std::vector<uint64_t> host_clusters) {
  std::sort(host_clusters.begin(), host_clusters.end());
  protected_tables_ = std::move(host_clusters);
}

void Allocator::unprotect_table(uint64_t host_cluster) {
  const auto range = std::ranges::equal_range(protected_tables_, host_cluster);
  protected_tables_.erase(range.begin(), range.end());
}

Task<Result<AllocatedClusters>> Allocator::allocate(uint64_t max_clusters) {
  CO_ASSIGN_OR_RETURN(const AllocatedClusters placed, co_await place(max_clusters));
  if (refcounts_.wanted_table_clusters()) {
    CO_RETURN_IF_ERROR(co_await grow_table());
  }
  co_return placed;
}

Task<Result<AllocatedClusters>> Allocator::place(uint64_t max_clusters) {
  assert(max_clusters > 0);
  CO_ASSIGN_OR_RETURN(const HostClusters run,
                      co_await refcounts_.find_free(first_candidate_, max_clusters));
  const bool is_new_space = run.first >= high_water_ && extends_with_zeros_;
  CO_RETURN_IF_ERROR(co_await take(run));
  first_candidate_ = run.end();
  co_return AllocatedClusters{run, is_new_space};
}

Task<Result<HostClusters>> Allocator::allocate_contiguous(uint64_t clusters) {
  assert(clusters > 0);
  HostClusters run;
  for (uint64_t from = first_candidate_; run.clusters < clusters; from = run.end()) {
    CO_ASSIGN_OR_RETURN(run, co_await refcounts_.find_free(from, clusters));
  }
  CO_RETURN_IF_ERROR(co_await take(run));
  if (refcounts_.wanted_table_clusters()) {
    CO_RETURN_IF_ERROR(co_await grow_table());
  }
  co_return run;
}

Task<Result<void>> Allocator::take(HostClusters run) {
  CO_RETURN_IF_ERROR(check_unprotected(run));
  CO_RETURN_IF_ERROR(co_await cover(run));
  CO_RETURN_IF_ERROR(co_await refcounts_.increment(run));
  note_use(run);
  co_return ok();
}

Result<void> Allocator::check_unprotected(HostClusters range) const {
  // Host offsets have 56 bits (QCOW2.md 3).
  if (range.end() > uint64_t{1} << (56 - cluster_bits_)) {
    return Error::from_errno(EFBIG);
  }
  const auto overlaps = [range](const HostClusters& taken) {
    return range.first < taken.end() && taken.first < range.end();
  };
  const auto table = std::ranges::lower_bound(protected_tables_, range.first);
  const bool holds_table = table != protected_tables_.end() && *table < range.end();
  if (holds_table || std::ranges::any_of(protected_, overlaps)) {
    return corruption("Preventing invalid write on metadata");
  }
  return ok();
}

void Allocator::note_use(HostClusters range) {
  allocated_end_ = std::max(allocated_end_, range.end());
  high_water_ = std::max(high_water_, range.end());
}

Task<Result<void>> Allocator::cover(HostClusters range) {
  const uint64_t entries = refcounts_.block_entries();
  for (uint64_t block = range.first / entries; block <= (range.end() - 1) / entries; ++block) {
    if (refcounts_.has_block(block)) continue;
    CO_RETURN_IF_ERROR(co_await add_block(block, range.end()));
  }
  co_return ok();
}

Task<Result<void>> Allocator::add_block(uint64_t block_index, uint64_t search_from) {
  // Behind what is being allocated, where QEMU puts it too.
  CO_ASSIGN_OR_RETURN(const HostClusters run, co_await refcounts_.find_free(search_from, 1));
  CO_RETURN_IF_ERROR(check_unprotected(run));
  CO_RETURN_IF_ERROR(co_await refcounts_.add_block(block_index, run.first));
  const uint64_t own_block = run.first / refcounts_.block_entries();
  if (!refcounts_.has_block(own_block)) {
    CO_RETURN_IF_ERROR(co_await add_block(own_block, run.end()));
  }
  CO_RETURN_IF_ERROR(co_await refcounts_.increment(run));
  note_use(run);
  co_return ok();
}

Task<Result<void>> Allocator::grow_table() {
  // Counting the new table may need blocks that the table has no room for: then once more.
  while (const std::optional<uint64_t> wanted = refcounts_.wanted_table_clusters()) {
    const HostClusters run{high_water_, *wanted};
    CO_RETURN_IF_ERROR(check_unprotected(run));
    note_use(run);
    CO_RETURN_IF_ERROR(co_await cover(run));
    CO_RETURN_IF_ERROR(co_await refcounts_.increment(run));
    refcounts_.move_table(run);
    protect(run);
  }
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
    CO_ASSIGN_OR_RETURN(const AllocatedClusters added, co_await allocate(1));
    const uint64_t added_offset = added.clusters.first << cluster_bits_;
    if (offset != 0 && round_up(offset, cluster_size) == added_offset) {
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

Task<Result<void>> Allocator::release(HostClusters range) {
  if (!frees_late_) {
    CO_RETURN_IF_ERROR(co_await release_unused(range));
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
    CO_RETURN_IF_ERROR(co_await release_unused(range));
  }
  co_return ok();
}

Task<Result<void>> Allocator::release_unused(HostClusters range) {
  CO_ASSIGN_OR_RETURN(const bool became_free, co_await refcounts_.decrement(range));
  if (became_free) first_candidate_ = std::min(first_candidate_, range.first);
  // A freed cluster must not take another stream.
  const uint64_t packing_cluster = next_free_byte_ >> cluster_bits_;
  if (packing_cluster >= range.first && packing_cluster < range.end()) next_free_byte_ = 0;
  co_return ok();
}

Task<Result<void>> Allocator::release_bytes(uint64_t host_offset, uint64_t length) {
  const uint64_t first = host_offset >> cluster_bits_;
  const uint64_t end = clusters_for(host_offset + length, cluster_bits_).value();
  CO_RETURN_IF_ERROR(co_await release({first, end - first}));
  co_return ok();
}

Task<Result<void>> Allocator::flush() {
  CO_RETURN_IF_ERROR(co_await refcounts_.flush());
  const std::vector<HostClusters> old_tables = refcounts_.take_old_tables();
  for (const HostClusters& range : old_tables) {
    unprotect(range);
    CO_RETURN_IF_ERROR(co_await release(range));
  }
  if (!old_tables.empty() && !frees_late_) {
    CO_RETURN_IF_ERROR(co_await refcounts_.flush());
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
