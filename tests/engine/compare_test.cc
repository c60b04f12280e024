#include "engine/compare.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loop/units.h"
#include "tests/support/fault_file.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/recording_messages.h"
#include "tests/support/scripted_image.h"

namespace imgconv {
namespace {

using test::ScriptedExtent;

constexpr auto kHole = ExtentKind::kUnallocated;
constexpr auto kData = ExtentKind::kData;
constexpr auto kZero = ExtentKind::kZero;

class CompareFixture {
 public:
  /// Layers from the top down; the top's file holds `bytes`, others nothing.
  std::unique_ptr<ImageChain> image(const std::vector<std::byte>& bytes,
                                    const std::vector<std::vector<ScriptedExtent>>& scripts) {
    std::vector<Layer> layers;
    for (const std::vector<ScriptedExtent>& script : scripts) {
      const std::string name = "file" + std::to_string(files_++);
      storage_.add(name, layers.empty() ? bytes : std::vector<std::byte>());
      auto scripted = std::make_unique<test::ScriptedImage>(script, 0, storage_.file(name));
      scripted_.push_back(scripted.get());
      Layer layer;
      layer.name = name;
      layer.image = std::move(scripted);
      layers.push_back(std::move(layer));
    }
    return std::make_unique<ImageChain>(std::move(layers), executor_);
  }
  CompareOutcome run(ImageChain& a, ImageChain& b, bool strict = false) {
    CompareOptions options;
    options.strict = strict;
    options.on_size_mismatch = [this] { steps_before_warning_ = messages_.steps.size(); };
    return test::run_inline(compare(a, b, options, executor_, messages_));
  }

  test::MemStorage storage_;
  test::RecordingMessages messages_;
  /// How much progress had been told when the sizes were found to differ, if they were.
  std::optional<size_t> steps_before_warning_;
  /// In the order of their making.
  std::vector<test::ScriptedImage*> scripted_;

 private:
  test::InlineExecutor executor_;
  unsigned files_ = 0;
};

TEST_CASE_METHOD(CompareFixture, "compare: equal bytes in differently cut extents are identical") {
  const auto bytes = test::pattern(0, 5 * kMiB);
  const auto a = image(bytes, {{{5 * kMiB, kData}}});
  const auto b = image(bytes, {{{1000, kData}, {3 * kMiB, kData}, {2 * kMiB - 1000, kData}}});
  CHECK(run(*a, *b).verdict == CompareVerdict::kIdentical);
  REQUIRE_FALSE(messages_.steps.empty());
  CHECK(messages_.steps.back() == std::pair<uint64_t, uint64_t>{5 * kMiB, 5 * kMiB});
}

TEST_CASE_METHOD(CompareFixture, "compare: the first sector that differs is named") {
  auto bytes = test::pattern(0, 5 * kMiB);
  const auto a = image(bytes, {{{5 * kMiB, kData}}});
  bytes[4 * kMiB] ^= std::byte{1};
  bytes[3 * kMiB + 700] ^= std::byte{1};
  const auto b = image(bytes, {{{5 * kMiB, kData}}});
  const CompareOutcome outcome = run(*a, *b);
  CHECK(outcome.verdict == CompareVerdict::kContentMismatch);
  CHECK(outcome.offset == 3 * kMiB + 512);
}

TEST_CASE_METHOD(CompareFixture, "compare: data equals a hole when it is all zeros") {
  std::vector<std::byte> bytes(kMiB);
  const auto hole = image({}, {{{kMiB, kHole}}});
  const auto zeros = image(bytes, {{{kMiB, kData}}});
  CHECK(run(*hole, *zeros).verdict == CompareVerdict::kIdentical);
  bytes[600'000] = std::byte{1};
  const auto spot = image(bytes, {{{kMiB, kData}}});
  const CompareOutcome outcome = run(*spot, *hole);
  CHECK(outcome.verdict == CompareVerdict::kContentMismatch);
  CHECK(outcome.offset == round_down(600'000, 512));
}

TEST_CASE_METHOD(CompareFixture, "compare: the longer image's rest must be zeros") {
  auto bytes = test::pattern(0, 8192);
  const auto shorter = image(bytes, {{{4096, kData}}});
  const auto with_hole = image(bytes, {{{4096, kData}, {4096, kHole}}});
  const auto with_data = image(bytes, {{{8192, kData}}});
  CompareOutcome outcome = run(*shorter, *with_hole);
  CHECK(outcome.verdict == CompareVerdict::kIdentical);
  outcome = run(*with_data, *shorter);
  CHECK(outcome.verdict == CompareVerdict::kContentMismatch);
  CHECK(outcome.offset == 4096);
}

TEST_CASE_METHOD(CompareFixture, "compare: no warning of sizes when the common part differs") {
  const auto a = image(test::pattern(0, 4096), {{{4096, kData}}});
  const auto b = image(test::pattern(8, 8192), {{{8192, kData}}});
  const CompareOutcome outcome = run(*a, *b);
  CHECK(outcome.verdict == CompareVerdict::kContentMismatch);
  CHECK_FALSE(steps_before_warning_);
}

TEST_CASE_METHOD(CompareFixture,
                 "compare: the warning of sizes comes between common part and rest") {
  const auto a = image(test::pattern(0, 4096), {{{4096, kData}}});
  const auto b = image(test::pattern(0, 8192), {{{4096, kData}, {4096, kHole}}});
  run(*a, *b);
  const std::vector<std::pair<uint64_t, uint64_t>> expected = {{4096, 8192}, {8192, 8192}};
  CHECK(messages_.steps == expected);
  CHECK(steps_before_warning_ == 1);
}

TEST_CASE_METHOD(CompareFixture, "compare: nothing to do is no progress") {
  const auto empty = image({}, {{}});
  CHECK(run(*empty, *empty).verdict == CompareVerdict::kIdentical);
  CHECK(messages_.steps.empty());
}

TEST_CASE_METHOD(CompareFixture, "compare: strict mode wants the same size and the same status") {
  const auto hole = image({}, {{{4096, kHole}}});
  const auto zero = image({}, {{{4096, kZero}}});
  const auto longer = image({}, {{{8192, kHole}}});
  CHECK(run(*hole, *hole, true).verdict == CompareVerdict::kIdentical);
  CHECK(run(*hole, *longer, true).verdict == CompareVerdict::kSizeMismatch);
  const CompareOutcome outcome = run(*hole, *zero, true);
  CHECK(outcome.verdict == CompareVerdict::kBlockStatusMismatch);
  CHECK(outcome.offset == 0);
}

TEST_CASE_METHOD(CompareFixture,
                 "compare: strict mode notices that only one image's extent ends the disk") {
  const auto a = image({}, {{{1024, kData}, {1024, kZero}, {1024, kData}}});
  const auto b = image({}, {{{1024, kData}, {2048, kZero}}});
  const CompareOutcome outcome = run(*a, *b, true);
  CHECK(outcome.verdict == CompareVerdict::kBlockStatusMismatch);
  CHECK(outcome.offset == 1024);
}

TEST_CASE_METHOD(CompareFixture,
                 "compare: strict mode takes zeros beyond a short backing image for allocated") {
  const auto over_short = image({}, {{{1024, kHole}, {1024, kHole}}, {{1024, kZero}}});
  const auto all_zero = image({}, {{{1024, kZero}, {1024, kZero}}});
  CHECK(run(*over_short, *all_zero, true).verdict == CompareVerdict::kIdentical);
}

TEST_CASE_METHOD(CompareFixture, "compare: a content mismatch before a status failure wins") {
  auto bytes = test::pattern(0, 8192);
  const auto a = image(bytes, {{{4096, kData}, {4096, kHole}}, {{8192, kData}}});
  scripted_[1]->set_bad_offset(4096);
  const auto same = image(bytes, {{{8192, kData}}});
  bytes[0] ^= std::byte{1};
  const auto different = image(bytes, {{{8192, kData}}});
  const CompareOutcome failed = run(*same, *a);
  CHECK(failed.verdict == CompareVerdict::kBlockStatusFailed);
  CHECK(failed.image == 1);
  CHECK(run(*different, *a).verdict == CompareVerdict::kContentMismatch);
}

TEST_CASE_METHOD(CompareFixture, "compare: a read error names the image and the offset") {
  const auto bytes = test::pattern(0, 3 * kMiB);
  const auto a = image(bytes, {{{3 * kMiB, kData}}});
  test::FaultScript script;
  script.fail_range({test::FileOperation::kRead}, 2 * kMiB + 4096, 1, EIO);
  storage_.set_wrapper([&script](std::unique_ptr<BlockingFile> file) {
    return std::make_unique<test::FaultFile>(std::move(file), script);
  });
  const auto b = image(bytes, {{{3 * kMiB, kData}}});
  const CompareOutcome outcome = run(*a, *b);
  CHECK(outcome.verdict == CompareVerdict::kReadFailed);
  CHECK(outcome.image == 1);
  CHECK(outcome.offset == 2 * kMiB);
  CHECK(outcome.reason == "Input/output error");
}

}  // namespace
}  // namespace imgconv
