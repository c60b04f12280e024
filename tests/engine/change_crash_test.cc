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

/// What distinguishes the chain top -> [middle ->] base from the plain one.
struct Shape {
  bool has_version2_top = false;
  bool has_snapshot = false;
  bool has_raw_base = false;
  bool has_middle = false;
  /// Both candidates for a base show the same.
  bool has_equal_other = false;
  uint64_t base_clusters = kClusters;
};

Qcow2Builder layer_builder(uint64_t clusters, uint32_t version = 3) {
  Qcow2Builder builder;
  builder.version(version).cluster_bits(12).size(clusters * kCluster);
  return builder;
}

void add_base(MemStorage& storage, const std::string& name, const Shape& shape, uint16_t seed) {
  if (shape.has_raw_base) {
    storage.add(name, pattern(0, shape.base_clusters * kCluster, seed));
    return;
  }
  Qcow2Builder base = layer_builder(shape.base_clusters);
  for (uint64_t i = 0; i < shape.base_clusters; ++i) {
    const Bytes bytes = pattern(i * kCluster, kCluster, seed);
    if (i % 3 == 0) base.data(i, bytes);
    if (i % 3 == 1) base.compressed(i, bytes);
  }
  storage.add(name, base.bytes());
}

void add_middle(MemStorage& storage) {
  Qcow2Builder middle = layer_builder(kClusters);
  middle.backing("base", "qcow2");
  for (uint64_t i = 0; i < kClusters; i += 5) {
    middle.data(i, pattern(i * kCluster, kCluster, 4));
  }
  storage.add("middle", middle.bytes());
}

void add_top(MemStorage& storage, const Shape& shape) {
  Qcow2Builder top = layer_builder(kClusters, shape.has_version2_top ? 2 : 3);
  top.backing(shape.has_middle ? "middle" : "base", shape.has_raw_base ? "raw" : "qcow2");
  for (uint64_t i = 0; i < kClusters; ++i) {
    if (i % 4 == 0) top.data(i, pattern(i * kCluster, kCluster, 5));
    if (i % 8 == 3 && !shape.has_version2_top) top.zero_plain(i);
  }
  if (shape.has_snapshot) {
    top.snapshot({});
    top.data(8, pattern(8 * kCluster, kCluster, 6)).data(9, pattern(9 * kCluster, kCluster, 6));
  }
  storage.add("top", top.bytes());
}

class ChangeCrash {
 public:
  explicit ChangeCrash(const Shape& shape)
      : shape_(shape), before_(make_images(storage, shape)), log_(storage) {
    log_.start();
  }

  void judge() {
    uint64_t states = 0;
    log_.for_each_state(7, 6, [&](const CrashState& state) {
      INFO(state.description);
      ++states;
      MemStorage crashed;
      for (const auto& [name, bytes] : state.files) crashed.add(name, bytes);
      for (const std::string name : {"base", "other", "middle"}) {
        if (storage.exists(name) && !crashed.exists(name)) crashed.add(name, storage.bytes(name));
      }
      require_no_corruption(crashed, "top");
      if (!shape_.has_raw_base) require_no_corruption(crashed, "base");
      REQUIRE(is_equal(guest_bytes(crashed, "top"), before_));
    });
    REQUIRE(states > 5);
  }

  MemStorage storage;
  RecordingMessages messages;

 private:
  /// Returns what the overlay shows.
  static Bytes make_images(MemStorage& storage, const Shape& shape) {
    add_base(storage, "base", shape, 3);
    add_base(storage, "other", shape, shape.has_equal_other ? 3 : 9);
    if (shape.has_middle) add_middle(storage);
    add_top(storage, shape);
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

  const Shape shape_;
  const Bytes before_;
  /// Made last: reading the disk takes hooks away.
  CrashLog log_;
};

Shape with_version2_top() {
  Shape shape;
  shape.has_version2_top = true;
  return shape;
}

Shape with_snapshot() {
  Shape shape;
  shape.has_snapshot = true;
  return shape;
}

Shape with_raw_base(uint64_t clusters) {
  Shape shape;
  shape.has_raw_base = true;
  shape.base_clusters = clusters;
  return shape;
}

Shape with_small_base() {
  Shape shape;
  shape.base_clusters = kClusters / 2;
  return shape;
}

Shape with_middle() {
  Shape shape;
  shape.has_middle = true;
  return shape;
}

TEST_CASE("Rebase: a crash at any point leaves leaks only", "[engine]") {
  const Shape shape = GENERATE(Shape(), with_version2_top(), with_snapshot(), with_middle());
  const bool goes_to_other = GENERATE(false, true);
  ChangeCrash crash(shape);
  RebaseOptions options;
  options.image.name = "top";
  options.backing_file = goes_to_other ? "other" : "";
  if (goes_to_other) options.backing_format = "qcow2";
  options.compress = shape.has_version2_top || shape.has_middle;
  REQUIRE_THAT(run_inline(rebase(crash.storage, options, crash.messages)), IsOk());
  crash.judge();
}

TEST_CASE("Rebase: a crash while only the name changes leaves an image that can be opened",
          "[engine]") {
  Shape shape;
  shape.has_equal_other = true;
  ChangeCrash crash(shape);
  RebaseOptions options;
  options.image.name = "top";
  options.backing_file = "other";
  options.backing_format = "qcow2";
  options.is_unsafe = true;
  REQUIRE_THAT(run_inline(rebase(crash.storage, options, crash.messages)), IsOk());
  crash.judge();
}

TEST_CASE("Commit: a crash at any point leaves leaks only", "[engine]") {
  const Shape shape = GENERATE(Shape(), with_version2_top(), with_snapshot(), with_small_base(),
                               with_raw_base(kClusters), with_raw_base(kClusters / 2));
  ChangeCrash crash(shape);
  CommitOptions options;
  options.image.name = "top";
  REQUIRE_THAT(run_inline(commit(crash.storage, options, crash.messages)), IsOk());
  crash.judge();
}

TEST_CASE("Commit: a crash on the way to a base further down leaves leaks only", "[engine]") {
  ChangeCrash crash(with_middle());
  CommitOptions options;
  options.image.name = "top";
  options.base = "base";
  REQUIRE_THAT(run_inline(commit(crash.storage, options, crash.messages)), IsOk());
  crash.judge();
}

}  // namespace
}  // namespace imgconv
