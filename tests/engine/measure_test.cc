#include "engine/measure.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/measure_bitmaps.h"
#include "formats/registry.h"
#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/recording_messages.h"
#include "tests/support/scripted_image.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::IsOk;
using test::run_inline;

MeasureRequest qcow2_request() {
  MeasureRequest request;
  request.target_format = "qcow2";
  return request;
}

TEST_CASE("measure: raw needs the size, rounded up to sectors") {
  MeasureRequest request;
  request.size = 1000;
  const auto report = run_inline(measure(request, nullptr));
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required == 1024);
  CHECK(report->fully_allocated == 1024);
}

TEST_CASE("measure: raw is told for sizes and options that no file could have") {
  MeasureRequest request;
  request.size = INT64_MAX;
  request.target_options = "preallocation=metadata";
  const auto report = run_inline(measure(request, nullptr));
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required == uint64_t{1} << 63);
}

TEST_CASE("measure: only data of the source costs clusters") {
  test::MemStorage storage;
  test::InlineExecutor executor;
  const std::vector<test::ScriptedExtent> script = {{64 * kKiB, ExtentKind::kData},
                                                    {64 * kKiB, ExtentKind::kZero},
                                                    {64 * kKiB, ExtentKind::kData, true},
                                                    {832 * kKiB, ExtentKind::kUnallocated}};
  std::vector<Layer> layers(1);
  layers[0].image = std::make_unique<test::ScriptedImage>(script, 0, storage.file("f"));
  ImageChain chain(std::move(layers), executor);
  const MeasureRequest request = qcow2_request();
  const auto report = run_inline(measure(request, &chain));
  REQUIRE_THAT(report, IsOk());
  // Five clusters of metadata, as qemu-img 10 says for 1 MiB.
  CHECK(report->required == 6 * 64 * kKiB);
  CHECK(report->fully_allocated == 21 * 64 * kKiB);
  CHECK_FALSE(report->bitmaps);
}

TEST_CASE("measure: a bad option is told in two lines") {
  test::RecordingMessages messages;
  MeasureRequest request = qcow2_request();
  request.size = kMiB;
  request.target_options = "bogus=1";
  CHECK_THAT(run_inline(measure(request, nullptr, &messages)),
             FailsSaying("Invalid options for file format 'qcow2'"));
  CHECK(messages.errors == std::vector<std::string>{"Invalid parameter 'bogus'"});
}

TEST_CASE("measure: an unknown target format is refused") {
  MeasureRequest request;
  request.target_format = "nope";
  request.size = 1;
  CHECK_THAT(run_inline(measure(request, nullptr)), FailsSaying("Unknown file format 'nope'"));
}

TEST_CASE("measure_bitmaps: each bitmap costs its clusters, its table and a directory entry") {
  ImageInfo source;
  source.format = "qcow2";
  source.virtual_size = 64 * kGiB;
  InfoValue::Object bitmap;
  bitmap.emplace_back("name", InfoValue{std::string("b0")});
  bitmap.emplace_back("granularity", InfoValue{uint64_t{64 * kKiB}});
  InfoValue::Object specific;
  specific.emplace_back("compat", InfoValue{std::string("1.1")});
  const BlockDriver& qcow2 = *find_driver("qcow2");

  source.specific = InfoValue{specific};
  CHECK(measure_bitmaps(source, qcow2, {}) == uint64_t{0});
  specific.emplace_back("bitmaps", InfoValue{InfoValue::Array{InfoValue{bitmap}}});
  source.specific = InfoValue{specific};
  // 2^20 bits are two clusters; one cluster of table, one of directory.
  CHECK(measure_bitmaps(source, qcow2, {}) == 4 * 64 * kKiB);
  // One that is not copied, as it is inconsistent, is measured all the same.
  InfoValue::Object broken = bitmap;
  broken.emplace_back("flags", InfoValue{InfoValue::Array{InfoValue{std::string("in-use")}}});
  specific.back().second = InfoValue{InfoValue::Array{InfoValue{bitmap}, InfoValue{broken}}};
  source.specific = InfoValue{specific};
  CHECK(measure_bitmaps(source, qcow2, {}) == 7 * 64 * kKiB);

  OptionValues version2;
  version2.set_string("compat", "0.10");
  CHECK_FALSE(measure_bitmaps(source, qcow2, version2));
  CHECK_FALSE(measure_bitmaps(source, *find_driver("raw"), {}));
}

}  // namespace
}  // namespace imgconv
