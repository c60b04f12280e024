#include "engine/dd.h"

#include <algorithm>
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

struct DdFixture {
  DdFixture() {
    options.input.name = "in";
    options.output = "out";
    storage.add("in", disk);
  }
  Result<void> run() { return run_inline(dd(storage, options, messages)); }
  Bytes part(uint64_t begin, uint64_t end) const {
    return {disk.begin() + static_cast<ptrdiff_t>(begin),
            disk.begin() + static_cast<ptrdiff_t>(end)};
  }

  const Bytes disk = pattern(0, 5 * kMiB + kSectorSize);
  MemStorage storage;
  RecordingMessages messages;
  DdOptions options;
};

TEST_CASE_METHOD(DdFixture, "Dd: copies the whole input by default", "[engine]") {
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(is_equal(storage.bytes("out"), disk));
}

TEST_CASE_METHOD(DdFixture, "Dd: what is skipped is taken from what is counted", "[engine]") {
  options.block_size = 3 * kSectorSize;
  options.count = 7;
  options.skip = 2;
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(is_equal(storage.bytes("out"), part(6 * kSectorSize, 21 * kSectorSize)));
}

TEST_CASE_METHOD(DdFixture, "Dd: a skip behind the end leaves an empty output and a complaint",
                 "[engine]") {
  options.block_size = 1 * kMiB;
  options.skip = UINT64_MAX / kMiB;
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(storage.bytes("out").empty());
  REQUIRE(messages.errors == std::vector<std::string>{"in: cannot skip to specified offset"});
}

TEST_CASE_METHOD(DdFixture, "Dd: the end of a part that is no whole sector is filled with zeros",
                 "[engine]") {
  options.block_size = 1000;
  options.count = 3;
  options.skip = 1;
  REQUIRE_THAT(run(), IsOk());
  Bytes expected = part(1000, 3000);
  expected.resize(2048);
  REQUIRE(is_equal(storage.bytes("out"), expected));
}

TEST_CASE_METHOD(DdFixture, "Dd: zeros are written like any other bytes", "[engine]") {
  storage.add("in", Bytes(256 * kKiB));
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(storage.content("out").stat().allocated == 256 * kKiB);
}

TEST_CASE_METHOD(DdFixture, "Dd: a qcow2 input is read as the disk it shows", "[engine]") {
  Qcow2Builder builder;
  builder.cluster_bits(12)
      .size(64 * kKiB)
      .data(2, pattern(8192, 4096))
      .compressed(3, pattern(12288, 4096));
  storage.add("in", builder.bytes());
  options.output_format = "qcow2";
  options.block_size = 4096;
  options.skip = 2;
  REQUIRE_THAT(run(), IsOk());
  Bytes expected = pattern(8192, 8192);
  expected.resize(56 * kKiB);
  REQUIRE(is_equal(guest_bytes(storage, "out"), expected));
}

/// Runs with the nth write of the run failing.
void require_failed_write(DdFixture& fixture, uint64_t n) {
  FaultScript script;
  script.fail_nth(FileOperation::kWrite, n, EIO);
  fixture.storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<FaultFile>(std::move(inner), script);
  });
  const Result<void> copied = fixture.run();
  fixture.storage.set_wrapper({});
  REQUIRE_THAT(copied, FailsWith(EIO, "writing to output"));
}

TEST_CASE_METHOD(DdFixture, "Dd: nothing is left of a new output that fails", "[engine]") {
  SECTION("raw") { require_failed_write(*this, 2); }
  SECTION("qcow2") {
    options.output_format = "qcow2";
    require_failed_write(*this, 6);
  }
  REQUIRE_FALSE(storage.exists("out"));
}

TEST_CASE_METHOD(DdFixture, "Dd: an existing raw output is emptied by the run that fails",
                 "[engine]") {
  storage.add("out", Bytes(kSectorSize));
  require_failed_write(*this, 2);
  REQUIRE(storage.bytes("out").empty());
}

TEST_CASE_METHOD(DdFixture, "Dd: an existing qcow2 output that fails is a disk of no size",
                 "[engine]") {
  storage.add("out", Bytes(kSectorSize));
  options.output_format = "qcow2";
  require_failed_write(*this, 6);
  constexpr size_t kSizeField = 24;
  const Bytes header = storage.bytes("out");
  REQUIRE(header.size() > kSizeField + 8);
  REQUIRE(std::all_of(header.begin() + kSizeField, header.begin() + kSizeField + 8,
                      [](std::byte byte) { return byte == std::byte{0}; }));
}

}  // namespace
}  // namespace imgconv
