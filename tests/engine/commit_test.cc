#include "engine/commit.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/support/chain_fixture.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

/// base <- mid <- top.
struct CommitFixture : ChainFixture {
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
  fail_at_every_step({"mid", "top"}, [this] { return run(); });
}

}  // namespace
}  // namespace imgconv
