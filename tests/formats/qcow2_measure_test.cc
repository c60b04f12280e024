#include "formats/qcow2/measure.h"

#include <catch2/catch.hpp>

#include "formats/options.h"
#include "formats/qcow2/create_options.h"
#include "loop/units.h"
#include "tests/support/matchers.h"

namespace imgconv::qcow2 {
namespace {

using test::FailsSaying;
using test::IsOk;

Result<MeasureReport> measure_with(uint64_t size, const std::string& options,
                                   const std::vector<MeasureRange>& ranges = {}) {
  CreateImageOptions request;
  request.virtual_size = size;
  request.options = *parse_options(create_options(), options);
  return measure(request, ranges);
}

struct Known {
  uint64_t size;
  std::string options;
  uint64_t required;
  uint64_t fully_allocated;
};

TEST_CASE("measure: sizes are those that qemu-img 10.0.2 prints", "[formats][qcow2]") {
  // QCOW2.md 11.
  const std::vector<Known> table = {
      {0, "", 196608, 196608},
      {64 * kMiB, "", 327680, 67436544},
      {kGiB, "extended_l2=on", 524288, 1074266112},
      {5 * kTiB, "", 839188480, 5498397327360},
      {100 * kGiB, "cluster_size=512,refcount_bits=64", 3462825472, 110837007872},
      {3 * kGiB, "cluster_size=2M,refcount_bits=1", 10485760, 3231711232},
      {64 * kMiB, "preallocation=metadata", 327680, 67436544},
      {64 * kMiB, "preallocation=falloc", 67436544, 67436544},
  };
  for (const Known& known : table) {
    CAPTURE(known.size, known.options);
    const auto report = measure_with(known.size, known.options);
    REQUIRE_THAT(report, IsOk());
    CHECK(report->required == known.required);
    CHECK(report->fully_allocated == known.fully_allocated);
  }
}

TEST_CASE("measure: a cluster is counted once however many pieces of data it holds",
          "[formats][qcow2]") {
  const std::vector<MeasureRange> ranges = {
      {0, 512, true},           {512, 1024, false},
      {1536, 512, true},        {2048, 200 * kKiB - 2048, false},
      {200 * kKiB, kKiB, true}, {201 * kKiB, kMiB - 201 * kKiB, false}};
  const auto empty = measure_with(kMiB, "");
  const auto report = measure_with(kMiB, "", ranges);
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required == empty->required + 2 * 64 * kKiB);
}

TEST_CASE("measure: data that begins in a counted cluster goes on behind it", "[formats][qcow2]") {
  const std::vector<MeasureRange> ranges = {
      {0, 512, true}, {512, 512, false}, {1024, 64 * kKiB, true}, {65 * kKiB, 63 * kKiB, false}};
  const auto report = measure_with(128 * kKiB, "", ranges);
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required == report->fully_allocated);
}

TEST_CASE("measure: with a backing file every cluster of a source may be needed",
          "[formats][qcow2]") {
  const auto report = measure_with(kMiB, "backing_file=b", {{0, kMiB, false}});
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required == report->fully_allocated);
}

TEST_CASE("measure: bad options are refused in QEMU's words", "[formats][qcow2]") {
  CHECK_THAT(measure_with(kMiB, "cluster_size=1000"),
             FailsSaying("Cluster size must be a power of two between 512 and 2048k"));
  CHECK_THAT(measure_with(kMiB, "compat=v2"), FailsSaying("Invalid compatibility level: 'v2'"));
  CHECK_THAT(measure_with(uint64_t{1} << 60, ""),
             FailsSaying("The image size is too large (try using a larger cluster size)"));
}

}  // namespace
}  // namespace imgconv::qcow2
