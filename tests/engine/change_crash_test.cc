// The power fails at every point of a rebase and of a commit: the overlay shows what it showed, and
// leaks are the worst damage of any image.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "engine/commit.h"
#include "engine/rebase.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/crash_log.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

constexpr uint64_t kCluster = 4 * kKiB;
constexpr uint64_t kClusters = 24;

struct CrashFixture {
  CrashFixture() : before(make_images(storage)), log(storage) { log.start(); }

  /// Returns what the overlay shows.
  static Bytes make_images(MemStorage& storage) {
    Qcow2Builder base;
    base.cluster_bits(12).size(kClusters * kCluster);
    Qcow2Builder top;
    top.cluster_bits(12).size(kClusters * kCluster).backing("base", "qcow2");
    for (uint64_t i = 0; i < kClusters; ++i) {
      const Bytes bytes = pattern(i * kCluster, kCluster, 3);
      if (i % 3 == 0) base.data(i, bytes);
      if (i % 3 == 1) base.compressed(i, bytes);
      if (i % 4 == 0) top.data(i, pattern(i * kCluster, kCluster, 5));
      if (i % 8 == 3) top.zero_plain(i);
    }
    storage.add("base", base.bytes());
    storage.add("top", top.bytes());
    return guest_bytes(storage, "top");
  }

  static void require_no_corruption(MemStorage& files, const std::string& name) {
    RecordingMessages messages;
    ImageRequest request;
    request.name = name;
    request.with_backing = false;
    auto chain = run_inline(open_image(files, request, messages));
    REQUIRE_THAT(chain, IsOk());
    const auto report = run_inline((*chain)->top().check([](const std::string&) {}));
    REQUIRE_THAT(report, IsOk());
    REQUIRE(report->corruptions + report->check_errors == 0);
  }

  void judge() {
    uint64_t states = 0;
    log.for_each_state(7, 6, [&](const CrashState& state) {
      INFO(state.description);
      ++states;
      MemStorage crashed;
      for (const auto& [name, bytes] : state.files) crashed.add(name, bytes);
      if (!crashed.exists("base")) crashed.add("base", storage.bytes("base"));
      require_no_corruption(crashed, "top");
      require_no_corruption(crashed, "base");
      REQUIRE(is_equal(guest_bytes(crashed, "top"), before));
    });
    REQUIRE(states > 10);
  }

  MemStorage storage;
  const Bytes before;
  /// Made last: reading the disk takes hooks away.
  CrashLog log;
  RecordingMessages messages;
};

TEST_CASE_METHOD(CrashFixture, "Rebase: a crash at any point leaves leaks only", "[engine]") {
  RebaseOptions options;
  options.image.name = "top";
  options.backing_file = "";
  options.compress = GENERATE(false, true);
  REQUIRE_THAT(run_inline(rebase(storage, options, messages)), IsOk());
  judge();
}

TEST_CASE_METHOD(CrashFixture, "Commit: a crash at any point leaves leaks only", "[engine]") {
  CommitOptions options;
  options.image.name = "top";
  REQUIRE_THAT(run_inline(commit(storage, options, messages)), IsOk());
  judge();
}

}  // namespace
}  // namespace imgconv
