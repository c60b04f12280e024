// The result of a convert does not depend on who finishes first, on how many there are, or on how
// files are waited for.
#include <catch2/catch.hpp>
#include <string>

#include "engine/convert.h"
#include "loop/runtime.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/convert_scenario.h"
#include "tests/support/manual_executor.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

struct Outcome {
  Bytes target;
  uint64_t allocated = 0;
};

struct Crew {
  unsigned coroutines = 1;
  bool out_of_order = false;
  bool prefers_async = false;
};

/// One conversion with completions in the order of `seed`.
Outcome convert_shuffled(const Scenario& scenario, const Crew& crew, uint64_t seed) {
  ManualExecutor executor;
  MemStorage storage(executor);
  storage.set_prefers_async(crew.prefers_async);
  scenario.add_files(storage);
  ConvertOptions options = scenario.options;
  options.coroutines = crew.coroutines;
  options.out_of_order = crew.out_of_order;
  RecordingMessages messages;
  const Result<ConvertSummary> result =
      run_shuffled(executor, convert(storage, options, messages), seed);
  REQUIRE_THAT(result, IsOk());
  return {storage.bytes("out"), storage.content("out").stat().allocated};
}

TEST_CASE("Convert: the order in which requests finish changes no byte of the target, of any kind",
          "[engine]") {
  const uint64_t random_seed = test_seed() % 100000;
  for (const Scenario& scenario : all_scenarios(random_seed, 4 * 2048 + 5)) {
    INFO(scenario.name << " (IMGCONV_SEED=" << random_seed << ")");
    const Outcome single = convert_shuffled(scenario, {}, 0);
    MemStorage reader;
    scenario.add_files(reader);
    reader.add("out", single.target);
    require_right(scenario, reader);
    for (uint64_t order = 1; order <= 6; ++order) {
      INFO("order " << order);
      const Crew crew{order % 2 == 0 ? 16U : 3U, order % 4 < 2, order > 3};
      const Outcome shuffled = convert_shuffled(scenario, crew, order);
      REQUIRE(is_equal(shuffled.target, single.target));
      // An existing file keeps the space of zeros or not, as the order of requests has it.
      if (!scenario.options.skip_create) REQUIRE(shuffled.allocated == single.allocated);
    }
  }
}

/// The same with threads, system calls and, where the kernel lets us, the ring.
Bytes convert_for_real(const Scenario& scenario, const Crew& crew, const RuntimeOptions& runtime) {
  const TempDir directory;
  for (const auto& [name, bytes] : scenario.files) write_file(directory.file(name), bytes);
  ConvertOptions options = scenario.options;
  options.sources = {directory.file("source")};
  options.target = directory.file("out");
  options.coroutines = crew.coroutines;
  options.out_of_order = crew.out_of_order;
  RecordingMessages messages;
  Runtime real(runtime);
  REQUIRE_THAT(real.run(convert(real.storage(), options, messages)), IsOk());
  return read_file(directory.file("out"));
}

TEST_CASE(
    "Convert: one worker on one thread and sixteen on four make the same file, on both I/O "
    "backends",
    "[engine]") {
  const uint64_t random_seed = test_seed() % 100000;
  for (const Scenario& scenario : all_scenarios(random_seed, 5 * 2048 + 3)) {
    INFO(scenario.name << " (IMGCONV_SEED=" << random_seed << ")");
    const Bytes single = convert_for_real(scenario, {}, {1, IoBackendKind::kPool});
    for (const IoBackendKind backend : {IoBackendKind::kPool, IoBackendKind::kUring}) {
      INFO("backend " << static_cast<int>(backend));
      REQUIRE(is_equal(convert_for_real(scenario, {16, false, false}, {4, backend}), single));
      REQUIRE(is_equal(convert_for_real(scenario, {16, true, false}, {4, backend}), single));
    }
  }
}

}  // namespace
}  // namespace imgconv
