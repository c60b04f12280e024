#include "formats/qcow2/check.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>

#include "formats/qcow2/check_counts.h"
#include "loop/pool_file.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_file.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::qcow2 {
namespace {

using test::BuilderSnapshot;
using test::FailsWith;
using test::IsOk;
using test::Qcow2Builder;
using Lines = std::vector<std::string>;

struct Outcome {
  Result<CheckReport> report;
  Lines lines;
};

Outcome check_image(const std::vector<std::byte>& image) {
  test::InlineExecutor executor;
  auto memory = std::make_unique<test::MemFile>();
  memory->content()->assign(image);
  PoolFile file(std::move(memory), executor);
  const auto header = test::run_inline(read_header(
      file, {.writable = false, .for_check = true, .incomplete_size = {}, .metadata_only = false}));
  if (!header) return {header.error(), {}};
  Lines lines;
  const CheckSink sink = [&lines](const std::string& line) { lines.push_back(line); };
  auto report = test::run_inline(check(file, *header, sink));
  return {std::move(report), lines};
}

/// 64 KiB clusters: header, refcount table 1, block 2, L1 3, L2 4, data 5 and 6.
Qcow2Builder two_clusters() {
  const std::vector<std::byte> data(512, std::byte{1});
  return Qcow2Builder().size(kMiB).data(0, data).data(1, data);
}

TEST_CASE("check: an image of everything is clean", "[formats][qcow2]") {
  const std::vector<std::byte> data(512, std::byte{1});
  for (const uint32_t order : {2U, 3U, 4U, 5U, 6U}) {
    CAPTURE(order);
    const auto outcome = check_image(Qcow2Builder()
                                         .cluster_bits(9)
                                         .refcount_order(order)
                                         .size(kMiB)
                                         .data(0, data)
                                         .compressed(1, data)
                                         .compressed(2, data)
                                         .zero_plain(3)
                                         .zero_alloc(4)
                                         .snapshot(BuilderSnapshot())
                                         .data(5, data)
                                         .bytes());
    REQUIRE_THAT(outcome.report, IsOk());
    CHECK(outcome.lines == Lines());
    CHECK(outcome.report->corruptions == 0);
    CHECK(outcome.report->leaks == 0);
  }
}

TEST_CASE("check: statistics count allocated, compressed and fragmented clusters",
          "[formats][qcow2]") {
  const std::vector<std::byte> data(512, std::byte{1});
  const auto outcome = check_image(Qcow2Builder()
                                       .size(kMiB)
                                       .data(0, data)
                                       .skip_host_clusters(1)
                                       .data(1, data)
                                       .data(2, data)
                                       .compressed(3, data)
                                       .bytes());
  REQUIRE_THAT(outcome.report, IsOk());
  CHECK(outcome.report->total_clusters == 16);
  CHECK(outcome.report->allocated_clusters == 4);
  CHECK(outcome.report->compressed_clusters == 1);
  CHECK(outcome.report->fragmented_clusters == 2);
  CHECK(outcome.report->image_end_offset == 10 * 65536);
}

TEST_CASE("check: a refcount too high is a leak, one too low a corruption", "[formats][qcow2]") {
  auto outcome = check_image(two_clusters().set_refcount(6, 2).bytes());
  REQUIRE_THAT(outcome.report, IsOk());
  CHECK(outcome.lines ==
        Lines{"Leaked cluster 6 refcount=2 reference=1",
              "ERROR OFLAG_COPIED data cluster: l2_entry=8000000000060000 refcount=2"});
  CHECK(outcome.report->leaks == 1);
  CHECK(outcome.report->corruptions == 1);
  outcome = check_image(two_clusters().set_refcount(6, 0).bytes());
  CHECK(outcome.lines ==
        Lines{"ERROR cluster 6 refcount=0 reference=1",
              "ERROR OFLAG_COPIED data cluster: l2_entry=8000000000060000 refcount=0"});
  CHECK(outcome.report->corruptions == 2);
}

TEST_CASE("check: faults of L2 entries are told one by one", "[formats][qcow2]") {
  const auto lines_with = [](uint64_t entry) {
    return check_image(two_clusters().l2(1, entry).bytes()).lines;
  };
  CHECK(lines_with(0x8100000000060000).front() ==
        "ERROR found l2 entry with reserved bits set: 8100000000060000");
  CHECK(lines_with(0x8000000000060200).front() ==
        "ERROR offset=60200: Data cluster is not properly aligned; L2 entry corrupted.");
  CHECK(lines_with(0x8000000000060201).front() ==
        "ERROR offset=60200: Preallocated cluster is not properly aligned; L2 entry corrupted.");
  CHECK(lines_with(0xc000000000060000).front() ==
        "ERROR: coffset=0x60000: copied flag must never be set for compressed clusters");
  CHECK(lines_with(0x8000000000900000).front() ==
        "ERROR: counting reference for region exceeding the end of the file by one cluster or "
        "more: offset 0x900000 size 0x10000");
}

TEST_CASE("check: faults of subcluster bitmaps are told", "[formats][qcow2]") {
  const std::vector<std::byte> data(512, std::byte{1});
  const auto contradiction = check_image(
      Qcow2Builder().size(kMiB).extended_l2().data(0, data).subclusters(0, 0x100000001).bytes());
  CHECK(contradiction.lines ==
        Lines{"ERROR offset=50000: Allocated cluster has corrupted subcluster allocation bitmap"});
  const auto homeless =
      check_image(Qcow2Builder().size(kMiB).extended_l2().data(0, data).subclusters(1, 1).bytes());
  CHECK(homeless.lines ==
        Lines{"ERROR: Unallocated cluster has non-zero subcluster allocation map"});
}

TEST_CASE("check: faults of L1 entries are told", "[formats][qcow2]") {
  auto outcome = check_image(two_clusters().l1(0, 0x8000000000040001).bytes());
  CHECK(outcome.lines == Lines{"ERROR found L1 entry with reserved bits set: 8000000000040001"});
  outcome = check_image(two_clusters().l1(0, 0x0000000000040000).bytes());
  CHECK(outcome.lines ==
        Lines{"ERROR OFLAG_COPIED L2 cluster: l1_index=0 l1_entry=40000 refcount=1"});
}

TEST_CASE("check: faults of the refcount table are told", "[formats][qcow2]") {
  auto outcome = check_image(two_clusters().poke_be64(0x10000, 0x20001).bytes());
  REQUIRE_THAT(outcome.report, IsOk());
  CHECK(outcome.lines.front() == "ERROR refcount table entry 0 has reserved bits set");
  outcome = check_image(two_clusters().poke_be64(0x10008, 0x10000000).bytes());
  CHECK(outcome.lines == Lines{"ERROR refcount block 1 is outside image"});
  outcome = check_image(two_clusters().poke_be64(0x10008, 0x20000).bytes());
  CHECK(outcome.lines.front() == "ERROR refcount block 1 refcount=2");
}

TEST_CASE("check: a misplaced refcount block makes its counts unreadable", "[formats][qcow2]") {
  const auto outcome = check_image(two_clusters().poke_be64(0x10000, 0x20200).bytes());
  REQUIRE_THAT(outcome.report, IsOk());
  REQUIRE(outcome.lines.size() == 2 + 7);
  CHECK(outcome.lines[0] ==
        "ERROR refcount block 0 is not cluster aligned; refcount table entry corrupted");
  CHECK(outcome.lines[1] ==
        "qcow2: Image is corrupt: Refblock offset 0x20200 unaligned (reftable index: 0); further "
        "non-fatal corruption events will be suppressed");
  CHECK(outcome.lines[2] == "Can't get refcount for cluster 0: Input/output error");
  CHECK(outcome.report->check_errors == 7);
}

TEST_CASE("check: more references than the refcounts can count are told", "[formats][qcow2]") {
  const auto outcome =
      check_image(two_clusters().refcount_order(0).l2(1, 0x8000000000050000).bytes());
  REQUIRE(outcome.lines.size() >= 2);
  CHECK(outcome.lines[0] == "ERROR: overflow cluster offset=0x50000");
}

TEST_CASE("check: an incomplete snapshot entry is a corruption", "[formats][qcow2]") {
  BuilderSnapshot spec;
  spec.extra_data_size = 8;
  const auto outcome = check_image(two_clusters().snapshot(spec).bytes());
  REQUIRE_THAT(outcome.report, IsOk());
  CHECK(outcome.lines == Lines{"ERROR snapshot table entry 0 is incomplete"});
  CHECK(outcome.report->corruptions == 1);
}

TEST_CASE("check: too many snapshots end it", "[formats][qcow2]") {
  const auto outcome = check_image(two_clusters().poke_be32(60, 65538).bytes());
  CHECK_THAT(outcome.report, FailsWith(EFBIG, "ERROR snapshot table too large"));
  CHECK(outcome.report.error().hint() ==
        "You can force-remove all 2 overhanging snapshots with qemu-img check -r all");
}

TEST_CASE("check: any table entry flipped gives a report or an error", "[formats][qcow2]") {
  const std::vector<std::byte> data(512, std::byte{1});
  const auto good = Qcow2Builder()
                        .cluster_bits(9)
                        .size(64 * kKiB)
                        .data(0, data)
                        .compressed(1, data)
                        .snapshot(BuilderSnapshot())
                        .bytes();
  for (size_t i = 24; i < good.size(); ++i) {
    auto flipped = good;
    flipped[i] ^= std::byte{0x81};
    const auto outcome = check_image(flipped);
    if (outcome.report) CHECK(outcome.report->total_clusters > 0);
  }
}

TEST_CASE("ReferenceCounts: counts beyond sixteen bits are exact", "[formats][qcow2]") {
  ReferenceCounts counts;
  const HostCluster cluster(70000);
  for (int i = 0; i < 66000; ++i) counts.increment(cluster);
  CHECK(counts.get(cluster) == 66000);
  CHECK(counts.get(HostCluster(70001)) == 0);
  CHECK(counts.get(HostCluster(1'000'000'000)) == 0);
  CHECK_FALSE(counts.is_surely_unreferenced(HostCluster(69000), 2000));
  CHECK(counts.is_surely_unreferenced(HostCluster(0), 32768));
}

}  // namespace
}  // namespace imgconv::qcow2
