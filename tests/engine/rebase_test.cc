#include "engine/rebase.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/support/chain_fixture.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

/// base <- top and, unrelated, other: clusters 0 and 1 of base differ from other, 2 does not.
struct RebaseFixture : ChainFixture {
  RebaseFixture() {
    const Bytes same = pattern(2 * kCluster, kCluster);
    storage.add("base", builder(6)
                            .data(0, pattern(0, kCluster))
                            .data(1, pattern(kCluster, kCluster))
                            .data(2, same)
                            .bytes());
    storage.add("other", builder(8)
                             .data(1, pattern(0, kCluster, 9))
                             .data(2, same)
                             .data(7, pattern(0, kCluster, 9))
                             .bytes());
    storage.add("top", builder(8)
                           .backing("base", "qcow2")
                           .data(0, pattern(0, kCluster, 3))
                           .data(5, pattern(5 * kCluster, kCluster, 3))
                           .bytes());
  }

  Result<void> run(const RebaseOptions& options) {
    RecordingMessages messages;
    return run_inline(rebase(storage, options, messages));
  }

  ImageInfo info() {
    ImageRequest request;
    request.name = "top";
    request.metadata_only = true;
    request.with_backing = false;
    RecordingMessages messages;
    auto chain = run_inline(open_image(storage, request, messages));
    REQUIRE_THAT(chain, IsOk());
    return (*chain)->top().info();
  }
};

RebaseOptions onto(const std::string& name) {
  RebaseOptions options;
  options.image.name = "top";
  options.backing_file = name;
  if (!name.empty()) options.backing_format = "qcow2";
  return options;
}

TEST_CASE_METHOD(RebaseFixture, "Rebase: the guest sees the same over another backing file",
                 "[engine]") {
  const Bytes before = guest_bytes(storage, "top");
  REQUIRE_THAT(run(onto("other")), IsOk());
  REQUIRE(is_equal(guest_bytes(storage, "top"), before));
  REQUIRE(info().backing_file == "other");
  REQUIRE(info().backing_format == "qcow2");
}

TEST_CASE_METHOD(RebaseFixture, "Rebase: only clusters that differ are copied", "[engine]") {
  REQUIRE_THAT(run(onto("other")), IsOk());
  REQUIRE(kind_in("top", 1) == ExtentKind::kData);
  REQUIRE(kind_in("top", 2) == ExtentKind::kUnallocated);
  REQUIRE(kind_in("top", 3) == ExtentKind::kUnallocated);
}

TEST_CASE_METHOD(RebaseFixture,
                 "Rebase: where the old backing file has ended the image gets zero clusters",
                 "[engine]") {
  REQUIRE_THAT(run(onto("other")), IsOk());
  REQUIRE(kind_in("top", 7) == ExtentKind::kZero);
}

TEST_CASE_METHOD(RebaseFixture, "Rebase: -c copies compressed clusters", "[engine]") {
  const Bytes before = guest_bytes(storage, "top");
  RebaseOptions options = onto("");
  options.compress = true;
  REQUIRE_THAT(run(options), IsOk());
  REQUIRE(kind_in("top", 1) == ExtentKind::kCompressed);
  REQUIRE(is_equal(guest_bytes(storage, "top"), before));
  REQUIRE(info().backing_file.empty());
}

TEST_CASE_METHOD(RebaseFixture, "Rebase: unsafe mode opens no backing file and copies nothing",
                 "[engine]") {
  RebaseOptions options = onto("nothere");
  options.is_unsafe = true;
  REQUIRE_THAT(storage.remove("base"), IsOk());
  REQUIRE_THAT(run(options), IsOk());
  REQUIRE(info().backing_file == "nothere");
}

TEST_CASE_METHOD(RebaseFixture,
                 "Rebase: onto a layer further down copies what the layers between hold",
                 "[engine]") {
  storage.add("deep", builder(6).data(3, pattern(0, kCluster, 5)).bytes());
  storage.add("base", builder(6).backing("deep", "qcow2").data(1, pattern(0, kCluster)).bytes());
  const Bytes before = guest_bytes(storage, "top");
  REQUIRE_THAT(run(onto("deep")), IsOk());
  REQUIRE(kind_in("top", 1) == ExtentKind::kData);
  REQUIRE(kind_in("top", 3) == ExtentKind::kUnallocated);
  REQUIRE(is_equal(guest_bytes(storage, "top"), before));
}

TEST_CASE_METHOD(RebaseFixture,
                 "Rebase: a version 2 image that had no backing file keeps its zeros over one",
                 "[engine]") {
  storage.add("top", builder(8).version(2).data(0, pattern(0, kCluster, 3)).bytes());
  const Bytes before = guest_bytes(storage, "top");
  REQUIRE_THAT(run(onto("other")), IsOk());
  REQUIRE(is_equal(guest_bytes(storage, "top"), before));
}

TEST_CASE_METHOD(RebaseFixture, "Rebase: a failure at any step leaves the guest what it saw",
                 "[engine]") {
  fail_at_every_step({"top"}, [this] { return run(onto("other")); });
}

}  // namespace
}  // namespace imgconv
