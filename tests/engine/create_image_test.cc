#include "engine/create_image.h"

#include <catch2/catch.hpp>
#include <string>

#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/recording_messages.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::IsOk;

class CreateFixture {
 public:
  CreateFixture() {
    request.name = "new";
    request.format = "qcow2";
    request.size = kMiB;
  }
  Result<PreparedCreate> prepare() {
    return test::run_inline(prepare_create(storage, request, messages));
  }
  Result<void> create() {
    const Result<PreparedCreate> prepared = prepare();
    REQUIRE_THAT(prepared, IsOk());
    return test::run_inline(perform_create(storage, *prepared));
  }

  test::MemStorage storage;
  test::RecordingMessages messages;
  CreateRequest request;
};

TEST_CASE_METHOD(CreateFixture, "prepare_create: the Formatting line shows values and defaults") {
  request.options = "lazy_refcounts=yes,cluster_size=128k,data_file=a,,b";
  const auto prepared = prepare();
  REQUIRE_THAT(prepared, IsOk());
  CHECK(prepared->formatting_line ==
        "Formatting 'new', fmt=qcow2 cluster_size=131072 extended_l2=off compression_type=zlib "
        "size=1048576 data_file=a,,b lazy_refcounts=yes refcount_bits=16");
}

TEST_CASE_METHOD(CreateFixture,
                 "prepare_create: hints for file systems are taken by every format") {
  request.options = "nocow=on";
  const auto prepared = prepare();
  REQUIRE_THAT(prepared, IsOk());
  CHECK(prepared->formatting_line.ends_with(" nocow=on"));
}

TEST_CASE_METHOD(CreateFixture,
                 "prepare_create: raw's options stand in the order of the original") {
  request.format = "raw";
  request.options = "extent_size_hint=2M,preallocation=off,nocow=yes";
  const auto prepared = prepare();
  REQUIRE_THAT(prepared, IsOk());
  CHECK(prepared->formatting_line ==
        "Formatting 'new', fmt=raw size=1048576 nocow=yes preallocation=off "
        "extent_size_hint=2097152");
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: the size may come from one place only") {
  request.options = "size=2M";
  CHECK_THAT(prepare(), FailsSaying("new: The image size must be specified only once"));
  request.size.reset();
  CHECK(prepare()->options.virtual_size == 2 * kMiB);
  request.options.clear();
  CHECK_THAT(prepare(), FailsSaying("new: Image creation needs a size parameter"));
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: without a size the backing file's is taken") {
  storage.add("base", test::pattern(0, 1000));
  request.size.reset();
  request.backing_file = "base";
  request.backing_format = "raw";
  const auto prepared = prepare();
  REQUIRE_THAT(prepared, IsOk());
  CHECK(prepared->options.virtual_size == 1024);
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: a backing file without format is refused") {
  storage.add("base", test::pattern(0, 1024));
  request.backing_file = "base";
  const auto prepared = prepare();
  CHECK_THAT(prepared, FailsSaying("new: Backing file specified without backing format"));
  CHECK(prepared.error().hint() == "Detected format of raw.");
  request.backing_unsafe = true;
  const auto unsafe = prepare();
  CHECK_THAT(unsafe, FailsSaying("new: Backing file specified without backing format"));
  CHECK(unsafe.error().hint().empty());
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: a missing backing file matters unless unsafe") {
  request.backing_file = "gone";
  request.backing_format = "qcow2";
  const auto prepared = prepare();
  CHECK_THAT(prepared, FailsSaying("new: Could not open 'gone': No such file or directory"));
  CHECK(prepared.error().hint() == "Could not open backing image.");
  request.backing_unsafe = true;
  CHECK_THAT(prepare(), IsOk());
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: the target is not its own backing file") {
  const std::string refusal =
      "new: Error: Trying to create an image with the same filename as the backing file";
  storage.add("new", test::pattern(0, 1024));
  request.backing_format = "raw";
  request.backing_file = "new";
  CHECK_THAT(prepare(), FailsSaying(refusal));
  request.backing_file = "file:new";
  CHECK_THAT(prepare(), FailsSaying(refusal));
  request.backing_file = "";
  CHECK_THAT(prepare(), FailsSaying("new: Expected backing file name, got empty string"));
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: raw has no backing file") {
  request.format = "raw";
  request.backing_format = "raw";
  CHECK_THAT(prepare(),
             FailsSaying("new: Backing file format not supported for file format 'raw'"));
  request.backing_file = "base";
  CHECK_THAT(prepare(), FailsSaying("new: Backing file not supported for file format 'raw'"));
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: the name is left out of errors on request") {
  request.options = "bogus=1";
  CHECK_THAT(prepare(), FailsSaying("new: Invalid parameter 'bogus'"));
  request.name_in_errors = false;
  CHECK_THAT(prepare(), FailsSaying("Invalid parameter 'bogus'"));
}

TEST_CASE_METHOD(CreateFixture, "prepare_create: unknown formats and protocols are refused") {
  request.format = "nope";
  CHECK_THAT(prepare(), FailsSaying("new: Unknown file format 'nope'"));
  request.format = "raw";
  request.name = "foo:x";
  CHECK_THAT(prepare(), FailsSaying("foo:x: Unknown protocol 'foo'"));
}

TEST_CASE_METHOD(CreateFixture, "perform_create: a bad value leaves an existing file as it was") {
  storage.add("new", test::pattern(0, 4096));
  request.options = "cluster_size=1000";
  CHECK_THAT(create(), FailsSaying("new: Cluster size must be a power of two between 512 and "
                                   "2048k"));
  CHECK(test::is_pattern(storage.bytes("new"), 0));
}

TEST_CASE_METHOD(CreateFixture, "perform_create: the system judges sizes that are file offsets") {
  request.format = "raw";
  const uint64_t largest = round_down(INT64_MAX, kSectorSize);
  request.size = largest + 1;
  CHECK_THAT(create(), FailsSaying("new: Could not resize file: Invalid argument"));
  CHECK_FALSE(storage.exists("new"));
  request.size = largest;
  const Result<PreparedCreate> prepared = prepare();
  REQUIRE_THAT(prepared, IsOk());
  CHECK_THAT(prepared->driver->validate_create(prepared->options), IsOk());
}

TEST_CASE_METHOD(CreateFixture, "perform_create: a prefix for the file protocol is not the name") {
  request.format = "raw";
  request.name = "file:new";
  REQUIRE_THAT(create(), IsOk());
  CHECK(storage.bytes("new").size() == kMiB);
}

}  // namespace
}  // namespace imgconv
