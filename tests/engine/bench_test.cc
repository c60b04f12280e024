#include "engine/bench.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <string>

#include "engine/open_image.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/fault_file.h"

namespace imgconv {
namespace {

using namespace imgconv::test;

struct BenchFixture {
  BenchFixture() {
    storage.add("disk", pattern(0, 64 * kKiB));
    storage.set_wrapper([this](std::unique_ptr<BlockingFile> file) {
      return std::make_unique<FaultFile>(std::move(file), script);
    });
    options.count = 16;
    options.depth = 4;
  }
  Result<void> run() {
    ImageRequest request;
    request.name = "disk";
    request.format = "raw";
    request.writable = options.is_write;
    auto chain = run_inline(open_image(storage, request, messages));
    REQUIRE_THAT(chain, IsOk());
    return run_inline(bench(**chain, options, storage.executor()));
  }

  FaultScript script;
  MemStorage storage;
  RecordingMessages messages;
  BenchOptions options;
};

TEST_CASE_METHOD(BenchFixture, "Bench: sends the requests that were asked for", "[engine]") {
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(script.count(FileOperation::kRead) == 16);
  REQUIRE(script.count(FileOperation::kWrite) == 0);
}

TEST_CASE_METHOD(BenchFixture, "Bench: writes the pattern and wraps at the end of the disk",
                 "[engine]") {
  options.is_write = true;
  options.pattern = 7;
  options.offset = 32 * kKiB;
  options.count = 9;
  REQUIRE_THAT(run(), IsOk());
  Bytes expected = pattern(0, 64 * kKiB);
  std::fill(expected.begin() + 32 * 1024, expected.end(), std::byte{7});
  std::fill(expected.begin(), expected.begin() + 4096, std::byte{7});
  REQUIRE(is_equal(storage.bytes("disk"), expected));
}

TEST_CASE_METHOD(BenchFixture, "Bench: flushes after every interval, the rest without one",
                 "[engine]") {
  options.is_write = true;
  options.count = 14;
  options.flush_interval = 4;
  options.drains_before_flush = GENERATE(true, false);
  REQUIRE_THAT(run(), IsOk());
  REQUIRE(script.count(FileOperation::kFlush) == 3);
}

TEST_CASE_METHOD(BenchFixture, "Bench: a request beyond the end fails", "[engine]") {
  options.offset = 64 * kKiB;
  REQUIRE_THAT(run(), FailsWith(EIO, "Failed request: Input/output error"));
}

}  // namespace
}  // namespace imgconv
