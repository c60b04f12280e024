#include "engine/commit.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <string>

#include "tests/support/convert_fixture.h"
#include "tests/support/fault_file.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

constexpr uint64_t kCluster = 4 * kKiB;

Qcow2Builder builder(uint64_t clusters) {
  Qcow2Builder made;
  made.cluster_bits(12).size(clusters * kCluster);
  return made;
}

/// base <- mid <- top.
struct CommitFixture {
  CommitFixture() {
    storage.add("base", builder(8)
                            .data(0, pattern(0, kCluster))
                            .data(1, pattern(kCluster, kCluster))
                            .compressed(2, pattern(2 * kCluster, kCluster))
                            .bytes());
    storage.add("mid", builder(8)
                           .backing("base", "qcow2")
                           .data(2, pattern(2 * kCluster, kCluster, 2))
                           .data(6, pattern(6 * kCluster, kCluster, 2))
                           .bytes());
    storage.add(
        "top",
        builder(8).backing("mid", "qcow2").data(0, pattern(0, kCluster, 3)).zero_plain(1).bytes());
    options.image.name = "top";
  }

  Result<void> run() {
    RecordingMessages messages;
    return run_inline(commit(storage, options, messages));
  }

  ExtentKind kind_in(const std::string& name, uint64_t guest_cluster) {
    ImageRequest request;
    request.name = name;
    RecordingMessages messages;
    auto chain = run_inline(open_image(storage, request, messages));
    REQUIRE_THAT(chain, IsOk());
    const auto extents = run_inline((*chain)->top().map(guest_cluster * kCluster, kCluster));
    REQUIRE_THAT(extents, IsOk());
    return extents->front().kind;
  }

  MemStorage storage;
  CommitOptions options;
};

TEST_CASE_METHOD(CommitFixture, "Commit: the backing file shows what the overlay showed",
                 "[engine]") {
  const Bytes before = guest_bytes(storage, "top");
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(is_equal(guest_bytes(storage, "mid"), before));
  REQUIRE(is_equal(guest_bytes(storage, "top"), before));
}

TEST_CASE_METHOD(CommitFixture, "Commit: the overlay holds nothing and is as short as a new one",
                 "[engine]") {
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(kind_in("top", 0) == ExtentKind::kUnallocated);
  REQUIRE(kind_in("top", 1) == ExtentKind::kUnallocated);
  // Header, refcount table, refcount block, L1.
  REQUIRE(storage.bytes("top").size() == 4 * kCluster);
}

TEST_CASE_METHOD(CommitFixture, "Commit: zeros of the overlay become zero clusters below",
                 "[engine]") {
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(kind_in("mid", 1) == ExtentKind::kZero);
  REQUIRE(kind_in("mid", 3) == ExtentKind::kUnallocated);
}

TEST_CASE_METHOD(CommitFixture, "Commit: -d leaves the overlay as it was", "[engine]") {
  const Bytes top = storage.bytes("top");
  options.drops_overlay = true;
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(is_equal(storage.bytes("top"), top));
}

TEST_CASE_METHOD(CommitFixture, "Commit: -b writes all layers above into the base and drops them",
                 "[engine]") {
  const Bytes before = guest_bytes(storage, "top");
  const Bytes mid = storage.bytes("mid");
  options.base = "base";
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(is_equal(guest_bytes(storage, "base"), before));
  REQUIRE(is_equal(storage.bytes("mid"), mid));
}

TEST_CASE_METHOD(CommitFixture, "Commit: a shorter base grows", "[engine]") {
  storage.add("mid", pattern(0, 3 * kCluster));
  storage.add("top", builder(8).backing("mid", "raw").data(5, pattern(0, kCluster)).bytes());
  const Bytes before = guest_bytes(storage, "top");
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(is_equal(storage.bytes("mid"), before));
}

TEST_CASE_METHOD(CommitFixture, "Commit: a base that is not in the chain is refused", "[engine]") {
  options.base = "elsewhere";
  REQUIRE_THAT(run(), FailsWith(EINVAL, "Did not find 'elsewhere' in the backing chain of 'top'"));
  options.image.name = "base";
  options.base.reset();
  REQUIRE_THAT(run(), FailsWith(EINVAL, "Image does not have a backing file"));
}

TEST_CASE_METHOD(CommitFixture, "Commit: guessed raw does not become another format", "[engine]") {
  storage.add("mid", Bytes(8 * kCluster));
  Bytes head = storage.bytes("base");
  head.resize(kCluster);
  storage.add("top", builder(8).backing("mid").data(0, head).bytes());
  REQUIRE_THAT(run(), FailsWith(EPERM, "Block job failed: Operation not permitted"));
}

TEST_CASE_METHOD(CommitFixture, "Commit: a failure at any step leaves the overlay what it showed",
                 "[engine]") {
  const Bytes before = guest_bytes(storage, "top");
  const Bytes mid = storage.bytes("mid");
  const Bytes top = storage.bytes("top");
  for (uint64_t step = 1;; ++step) {
    storage.add("mid", mid);
    storage.add("top", top);
    FaultScript script;
    script.fail_nth(kAnyOperation, step, EIO);
    storage.set_wrapper([&script](std::unique_ptr<BlockingFile> file) {
      return std::make_unique<FaultFile>(std::move(file), script);
    });
    const Result<void> done = run();
    INFO(step);
    REQUIRE(is_equal(guest_bytes(storage, "top"), before));
    if (done && script.fired() == 0) break;
    REQUIRE(step < 1000);
  }
}

}  // namespace
}  // namespace imgconv
