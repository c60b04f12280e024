#include "engine/plan.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "engine/image_chain.h"
#include "loop/units.h"

namespace imgconv {
namespace {

// qemu-img reads and splits data in pieces of 2 MiB, up to 16 MiB when the target's clusters are
// larger (CLI.md 2.2); the same pieces are needed for the same holes.
constexpr uint64_t kMinBuffer = 2 * kMiB;
constexpr uint64_t kMaxBuffer = 16 * kMiB;
// Small runs are collected up to this, so that a pool job is worth its wake-up.
constexpr uint64_t kChunkGoal = 1 * kMiB;

SparseRule sparse_rule(uint64_t sparse_size, uint64_t request_alignment) {
  const uint64_t min_sectors = sparse_size / kSectorSize;
  const uint64_t target_sectors = div_round_up(request_alignment, kSectorSize);
  return {min_sectors, std::max(std::bit_floor(min_sectors), std::bit_ceil(target_sectors))};
}

/// Does the target read as zeros wherever nothing is written? -S 0 asks for everything to be
/// written, so nobody cares then.
bool starts_as_zeros(const ConvertOptions& options, const TargetFacts& target) {
  if (options.target_is_zero) return true;
  return target.is_new && !target.has_backing && options.sparse_size != 0 &&
         target.reads_as_zeros_initially;
}

void set_sizes(ConvertPlan& plan, uint64_t chunk_goal, const TargetFacts& target) {
  plan.max_run = std::clamp(target.cluster_size, kMinBuffer, kMaxBuffer);
  plan.chunk_capacity = plan.max_run;
  if (plan.compression) {
    plan.max_run = plan.compression->cluster_size;
    plan.chunk_capacity = std::max(plan.max_run, kChunkGoal);
  }
  plan.chunk_goal = chunk_goal != 0 ? chunk_goal : kChunkGoal;
}

}  // namespace

Result<ConvertPlan> make_plan(const ConvertOptions& options, const SourceFacts& source,
                              const TargetFacts& target) {
  if (options.compress && !target.compression && target.is_identity) {
    return Error(ENOTSUP, "Compression not supported for this file format");
  }
  if (target.virtual_size < source.virtual_size) {
    return Error(EINVAL, "output file is smaller than input file");
  }
  ConvertPlan plan;
  plan.virtual_size = source.virtual_size;
  plan.target_size = target.virtual_size;
  plan.workers = options.coroutines;
  if (options.compress) {
    if (!target.compression) {
      // An external data file: the original notices when it writes.
      return Error(ENOTSUP, "error while writing at byte 0: Operation not supported");
    }
    plan.compression = target.compression;
  }
  set_sizes(plan, options.chunk_goal, target);
  plan.reads_async = source.prefers_async;
  plan.writes_async = target.prefers_async;
  plan.target_is_identity = target.is_identity;
  const bool needs_digest = std::any_of(
      options.digests.begin(), options.digests.end(), [&target](const DigestRequest& request) {
        return !request.of_file || (target.is_identity && target.is_new_file);
      });
  plan.is_witnessed = options.verify || needs_digest;
  const bool can_fuse =
      target.is_identity && !plan.reads_async && !plan.writes_async && !plan.is_witnessed;
  plan.step = can_fuse ? CopyStep::kFused : CopyStep::kTwoTrips;
  if (options.sparse_size != 0) {
    plan.sparse = sparse_rule(options.sparse_size, target.request_alignment);
  }
  plan.zero_action =
      starts_as_zeros(options, target) ? ZeroAction::kSkip : ZeroAction::kWriteZeroes;
  plan.links_in_turn =
      plan.zero_action == ZeroAction::kWriteZeroes || (!target.is_new && target.holds_clusters);
  plan.source_depth = target.has_backing ? 1 : kAllLayers;
  plan.unallocated_is_backing = target.has_backing;
  if (target.has_backing) plan.target_backing_size = target.backing_size;
  plan.salvage = options.salvage;
  // A source that can be read in part would be complained about twice.
  plan.counts_data = options.counts_data && !options.salvage;
  plan.rate_limit = options.rate_limit;
  plan.copy_range = options.copy_range;
  // Who gives creation options (preallocation) wants the bytes written. Nothing else counts,
  // neither step nor rate: where the target has holes must not depend on how it is copied.
  plan.clone = options.may_clone && target.is_identity && options.target_options.empty();
  return plan;
}

}  // namespace imgconv
