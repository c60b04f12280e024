// Every operation on a file fails once: a convert ends with an error, or it did not matter.
#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "engine/convert.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/convert_scenario.h"
#include "tests/support/fault_file.h"
#include "tests/support/manual_executor.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

/// Runs the scenario with its operation `step` failing. False: it has no so many operations.
bool run_with_fault(const Scenario& scenario, uint64_t step, int errno_value, bool prefers_async) {
  INFO(scenario.name << ", operation " << step << ", async " << prefers_async);
  FaultScript script;
  script.fail_nth(kAnyOperation, step, errno_value);
  ManualExecutor executor;
  MemStorage storage(executor);
  storage.set_prefers_async(prefers_async);
  scenario.add_files(storage);
  storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<FaultFile>(std::move(inner), script);
  });
  RecordingMessages messages;
  ConvertOptions options = scenario.options;
  options.coroutines = step % 3 == 0 ? 1 : 8;
  const Result<ConvertSummary> result =
      run_shuffled(executor, convert(storage, options, messages), step);
  if (!result) {
    REQUIRE(script.fired() == 1);
    REQUIRE(result.error().text().find(errno_text(errno_value)) != std::string::npos);
    return true;
  }
  MemStorage reader;
  scenario.add_files(reader);
  reader.add("out", storage.bytes("out"));
  require_right(scenario, reader);
  return script.fired() == 1;
}

/// More than a chunk of data, so that workers meet at the turnstile.
constexpr size_t kSectors = 2048 + 513;

void fail_every_step(SourceKind source, TargetKind target) {
  const Scenario scenario = make_scenario(source, target, 5, kSectors);
  for (const bool prefers_async : {false, true}) {
    uint64_t step = 1;
    const int errno_value = prefers_async ? ENOSPC : EIO;
    while (run_with_fault(scenario, step, errno_value, prefers_async)) ++step;
    INFO(scenario.name);
    REQUIRE(step > 5);
  }
}

TEST_CASE("Convert: each failing operation is an error, or did not matter", "[engine]") {
  SECTION("to every kind of target") {
    const TargetKind target =
        GENERATE(TargetKind::kRaw, TargetKind::kQcow2, TargetKind::kCompressed, TargetKind::kZstd,
                 TargetKind::kExtendedL2, TargetKind::kExistingRaw, TargetKind::kExistingQcow2,
                 TargetKind::kExistingCompressed, TargetKind::kBacked);
    fail_every_step(SourceKind::kRaw, target);
  }
  SECTION("from qcow2") {
    const TargetKind target =
        GENERATE(TargetKind::kRaw, TargetKind::kQcow2, TargetKind::kExistingQcow2);
    fail_every_step(SourceKind::kQcow2, target);
  }
  SECTION("from an overlay") {
    const TargetKind target = GENERATE(TargetKind::kRaw, TargetKind::kQcow2, TargetKind::kBacked);
    fail_every_step(SourceKind::kOverlay, target);
  }
}

}  // namespace
}  // namespace imgconv
