#include "loop/history/handoff.h"

#include <catch2/catch.hpp>
#include <string>
#include <thread>

#include "tests/support/matchers.h"

namespace imgconv::history {
namespace {

HandoffReport run(const HandoffOptions& options) {
  const Result<HandoffReport> report = run_handoff(options);
  REQUIRE(report);
  return *report;
}

/// Runs until a wake-up is lost.
bool loses(std::string_view protocol, Memory memory) {
  // How long a store must wait in the buffer to be overtaken depends on the machine and the moment.
  for (const unsigned cold_stores : {0U, 8U, 32U, 0U, 8U, 32U}) {
    HandoffOptions options;
    options.protocol = protocol;
    options.memory = memory;
    options.max_rounds = ~uint64_t{0};
    options.max_seconds = 5;
    options.max_lost = 1;
    options.cold_stores = cold_stores;
    if (run(options).lost > 0) return true;
  }
  return false;
}

bool has_two_processors() { return any_two_processors().has_value(); }

// V9_old is wrong by C++ alone: on the machines here its acquiring look waits for the store.
TEST_CASE("Handoff: what ships and what was right loses nothing", "[loop]") {
  const Memory memory = GENERATE(Memory::kNative, Memory::kArmv8);
  for (const std::string_view protocol :
       {"current", "V2_fixed", "V3b_smp_mb", "V3e_sc", "V3g_always", "V5", "V7_fixed", "V8_fixed",
        "V9_fixed", "V10_rmw", "V11_accept_store", "V11_sleep", "V9_old"}) {
    INFO(std::string(protocol));
    HandoffOptions options;
    options.protocol = protocol;
    options.memory = memory;
    options.max_rounds = memory == Memory::kNative ? 5000 : 300;
    options.max_seconds = 1;
    const HandoffReport report = run(options);
    CHECK(report.rounds > 0);
    CHECK(report.lost == 0);
    CHECK(report.rescued == 0);
    CHECK(report.wake_ups == report.sleeps);
  }
}

TEST_CASE("Handoff: the emulated ARMv8 loses the wake-ups of LP#1805256", "[loop]") {
  for (const std::string_view protocol :
       {"V3", "V3_poll", "V3_oneshot", "V3c_asposted", "V3d_asposted", "V3e_asposted",
        "V3k_cppmem1", "V3k_cppmem2", "V4_prepare", "V4_poll", "V4a_poll"}) {
    INFO(std::string(protocol));
    CHECK(loses(protocol, Memory::kArmv8));
  }
}

TEST_CASE("Handoff: the emulated ARMv8 loses the wake-ups of the other broken protocols",
          "[loop]") {
  for (const std::string_view protocol :
       {"V2_both", "V2_fixM_only", "V5_noMfence", "V7_old", "V8_old"}) {
    INFO(std::string(protocol));
    CHECK(loses(protocol, Memory::kArmv8));
  }
}

TEST_CASE("Handoff: a logic bug needs no weak memory", "[loop]") {
  CHECK(loses("V1", Memory::kNative));
}

// TSan makes every atomic operation a locked one or a call, in which a store buffer empties.
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("Handoff: x86 loses wake-ups where a store is followed by a load", "[loop]") {
  if (!has_two_processors()) {
    WARN("skipped: one processor shows no reordering");
    return;
  }
  CHECK(loses("V5_noMfence", Memory::kNative));
  CHECK(loses("V2_both", Memory::kNative));
}

TEST_CASE("Handoff: x86 does not lose the wake-ups of LP#1805256", "[loop]") {
  HandoffOptions options;
  options.protocol = "V3";
  options.max_rounds = 200'000;
  options.max_seconds = 2;
  options.cold_stores = 8;
  CHECK(run(options).lost == 0);
}
#endif

TEST_CASE("Handoff: a lost wake-up is counted once and its jobs are rescued", "[loop]") {
  HandoffOptions options;
  options.protocol = "V3";
  options.memory = Memory::kArmv8;
  options.max_rounds = ~uint64_t{0};
  options.max_lost = 3;
  options.jobs_per_round = 1;
  const HandoffReport report = run(options);
  CHECK(report.lost == 3);
  CHECK(report.rescued == 3);
  CHECK(report.wake_ups + report.lost == report.sleeps);
  CHECK(report.lost_per_million_sleeps() > 0);
}

TEST_CASE("Handoff: an unknown protocol and an impossible processor are errors", "[loop]") {
  HandoffOptions options;
  options.protocol = "V99";
  CHECK_THAT(run_handoff(options), test::FailsWith(EINVAL, "Unknown protocol 'V99'"));
  options.protocol = "current";
  options.pinning = Pinning{1'000'000, 0};
  options.max_rounds = ~uint64_t{0};
  options.max_seconds = 1e9;
  CHECK_FALSE(run_handoff(options).has_value());
}

}  // namespace
}  // namespace imgconv::history
