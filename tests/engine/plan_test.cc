#include "engine/plan.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "engine/image_chain.h"
#include "loop/units.h"
#include "tests/support/matchers.h"

namespace imgconv {
namespace {

using test::FailsSaying;

SourceFacts source_facts() { return {1 * kMiB, false}; }

TargetFacts new_raw() {
  TargetFacts facts;
  facts.virtual_size = 1 * kMiB;
  facts.is_identity = true;
  facts.is_new = true;
  facts.reads_as_zeros_initially = true;
  return facts;
}

TargetFacts new_qcow2(uint64_t cluster_size = 64 * kKiB) {
  TargetFacts facts = new_raw();
  facts.is_identity = false;
  facts.cluster_size = cluster_size;
  facts.compression = CompressionInfo{Codec::kDeflate, cluster_size};
  return facts;
}

ConvertPlan plan_for(const ConvertOptions& options, const TargetFacts& target) {
  Result<ConvertPlan> plan = make_plan(options, source_facts(), target);
  REQUIRE(plan.has_value());
  return *plan;
}

TEST_CASE("Plan: a raw target is copied by one job per chunk, a qcow2 target by two", "[engine]") {
  REQUIRE(plan_for({}, new_raw()).step == CopyStep::kFused);
  REQUIRE(plan_for({}, new_qcow2()).step == CopyStep::kTwoTrips);
}

TEST_CASE("Plan: a raw target shares space with its source unless bytes are wanted", "[engine]") {
  ConvertOptions options;
  REQUIRE_FALSE(plan_for(options, new_raw()).clone);
  options.may_clone = true;
  REQUIRE(plan_for(options, new_raw()).clone);
  REQUIRE_FALSE(plan_for(options, new_qcow2()).clone);
  ConvertOptions preallocated = options;
  preallocated.target_options = "preallocation=falloc";
  REQUIRE_FALSE(plan_for(preallocated, new_raw()).clone);
}

TEST_CASE("Plan: whether space is shared does not depend on how the target is copied", "[engine]") {
  ConvertOptions options;
  options.may_clone = true;
  options.rate_limit = 1;
  options.verify = true;
  REQUIRE(plan_for(options, new_raw()).step == CopyStep::kTwoTrips);
  REQUIRE(plan_for(options, new_raw()).clone);
}

TEST_CASE("Plan: chunks may be asked to be small", "[engine]") {
  ConvertOptions options;
  options.chunk_goal = 64 * kKiB;
  REQUIRE(plan_for(options, new_qcow2()).chunk_goal == 64 * kKiB);
  REQUIRE(plan_for({}, new_qcow2()).chunk_goal > 64 * kKiB);
}

TEST_CASE("Plan: files that prefer depth are not fused", "[engine]") {
  SourceFacts source = source_facts();
  source.prefers_async = true;
  const Result<ConvertPlan> by_source = make_plan({}, source, new_raw());
  REQUIRE(by_source->step == CopyStep::kTwoTrips);
  REQUIRE(by_source->reads_async);
  TargetFacts target = new_raw();
  target.prefers_async = true;
  const ConvertPlan by_target = plan_for({}, target);
  REQUIRE(by_target.step == CopyStep::kTwoTrips);
  REQUIRE(by_target.writes_async);
}

TEST_CASE("Plan: a new target without backing image needs no zeros", "[engine]") {
  REQUIRE(plan_for({}, new_raw()).zero_action == ZeroAction::kSkip);
}

TEST_CASE("Plan: an existing target is told where zeros are, unless it is declared zero",
          "[engine]") {
  TargetFacts existing = new_raw();
  existing.is_new = false;
  REQUIRE(plan_for({}, existing).zero_action == ZeroAction::kWriteZeroes);
  ConvertOptions declared;
  declared.target_is_zero = true;
  REQUIRE(plan_for(declared, existing).zero_action == ZeroAction::kSkip);
}

TEST_CASE("Plan: chunks are linked in turn where that frees clusters or zeros stand beside data",
          "[engine]") {
  ConvertOptions options;
  CHECK_FALSE(plan_for(options, new_qcow2()).links_in_turn);
  TargetFacts existing = new_qcow2();
  existing.is_new = false;
  CHECK(plan_for(options, existing).links_in_turn);
  options.target_is_zero = true;
  CHECK_FALSE(plan_for(options, existing).links_in_turn);
  existing.holds_clusters = true;
  CHECK(plan_for(options, existing).links_in_turn);
  // What a new one has was preallocated.
  existing.is_new = true;
  CHECK_FALSE(plan_for(options, existing).links_in_turn);
}

TEST_CASE("Plan: a new device that does not read as zeros is told where zeros are", "[engine]") {
  TargetFacts device = new_raw();
  device.reads_as_zeros_initially = false;
  REQUIRE(plan_for({}, device).zero_action == ZeroAction::kWriteZeroes);
}

TEST_CASE("Plan: a backed target gets the top layer only", "[engine]") {
  TargetFacts backed = new_qcow2();
  backed.has_backing = true;
  backed.backing_size = 512 * kKiB;
  const ConvertPlan plan = plan_for({}, backed);
  REQUIRE(plan.source_depth == 1);
  REQUIRE(plan.unallocated_is_backing);
  REQUIRE(plan.target_backing_size == 512 * kKiB);
  REQUIRE(plan.zero_action == ZeroAction::kWriteZeroes);
  REQUIRE(plan_for({}, new_qcow2()).source_depth == kAllLayers);
}

TEST_CASE("Plan: a backing image the user did not name does not change what is copied",
          "[engine]") {
  TargetFacts existing = new_qcow2();
  existing.is_new = false;
  existing.backing_size = 512 * kKiB;
  const ConvertPlan plan = plan_for({}, existing);
  REQUIRE(plan.source_depth == kAllLayers);
  REQUIRE_FALSE(plan.target_backing_size);
}

TEST_CASE("Plan: -S decides on the length of holes and on their alignment", "[engine]") {
  struct Row {
    uint64_t sparse_size;
    uint64_t request_alignment;
    uint64_t min_sectors;
    uint64_t alignment_sectors;
  };
  const Row rows[] = {
      {4096, 1, 8, 8},           {512, 1, 1, 1},    {12 * kKiB, 1, 24, 16}, {512, 4096, 1, 8},
      {1 * kMiB, 1, 2048, 2048}, {4096, 512, 8, 8},
  };
  for (const Row& row : rows) {
    INFO("-S " << row.sparse_size << ", requests of " << row.request_alignment);
    ConvertOptions options;
    options.sparse_size = row.sparse_size;
    TargetFacts target = new_raw();
    target.request_alignment = row.request_alignment;
    const ConvertPlan plan = plan_for(options, target);
    REQUIRE(plan.sparse.has_value());
    REQUIRE(plan.sparse->min_sectors == row.min_sectors);
    REQUIRE(plan.sparse->alignment_sectors == row.alignment_sectors);
  }
}

TEST_CASE("Plan: -S 0 looks for no zeros and trusts none", "[engine]") {
  ConvertOptions options;
  options.sparse_size = 0;
  const ConvertPlan plan = plan_for(options, new_raw());
  REQUIRE_FALSE(plan.sparse);
  REQUIRE(plan.zero_action == ZeroAction::kWriteZeroes);
}

TEST_CASE("Plan: runs are 2 MiB, and one cluster with -c", "[engine]") {
  REQUIRE(plan_for({}, new_raw()).max_run == 2 * kMiB);
  ConvertOptions compressed;
  compressed.compress = true;
  const ConvertPlan plan = plan_for(compressed, new_qcow2());
  REQUIRE(plan.max_run == 64 * kKiB);
  REQUIRE(plan.chunk_capacity == 1 * kMiB);
  const ConvertPlan large = plan_for(compressed, new_qcow2(2 * kMiB));
  REQUIRE(large.max_run == 2 * kMiB);
  REQUIRE(large.chunk_capacity == 2 * kMiB);
}

TEST_CASE("Plan: impossible wishes are refused in the words of qemu-img", "[engine]") {
  ConvertOptions compressed;
  compressed.compress = true;
  REQUIRE_THAT(make_plan(compressed, source_facts(), new_raw()),
               FailsSaying("Compression not supported for this file format"));
  TargetFacts with_data_file = new_qcow2();
  with_data_file.compression.reset();
  REQUIRE_THAT(make_plan(compressed, source_facts(), with_data_file),
               FailsSaying("error while writing at byte 0: Operation not supported"));
  TargetFacts small = new_raw();
  small.virtual_size = 1 * kMiB - 512;
  REQUIRE_THAT(make_plan({}, source_facts(), small),
               FailsSaying("output file is smaller than input file"));
}

}  // namespace
}  // namespace imgconv
