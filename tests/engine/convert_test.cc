#include "engine/convert.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/open_image.h"
#include "loop/units.h"
#include "tests/support/convert_fixture.h"
#include "tests/support/fault_file.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/recording_messages.h"
#include "tests/support/trace_file.h"

namespace imgconv {
namespace {

using namespace imgconv::test;
TEST_CASE("Convert: sources are put end to end, each rounded up to a sector", "[engine]") {
  MemStorage storage;
  storage.add("a", pattern(0, 1000));
  storage.add("b", pattern(5000, 3 * kSectorSize));
  ConvertOptions options = options_for("a", "out", "raw");
  options.sources.push_back("b");
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  Bytes expected = pattern(0, 1000);
  expected.resize(2 * kSectorSize);
  const Bytes second = pattern(5000, 3 * kSectorSize);
  expected.insert(expected.end(), second.begin(), second.end());
  REQUIRE(is_equal(storage.bytes("out"), expected));
}

TEST_CASE("Convert: a disk without a byte becomes one", "[engine]") {
  MemStorage storage;
  storage.add("empty", Bytes());
  REQUIRE_THAT(run_convert(storage, options_for("empty", "out", "raw")), IsOk());
  REQUIRE(storage.bytes("out").empty());
}

TEST_CASE("Convert: written zeros of the source become holes", "[engine]") {
  MemStorage storage;
  Bytes disk(1 * kMiB);
  fill_pattern(std::span(disk).subspan(256 * kKiB, 64 * kKiB), 0);
  auto file = storage.file("source");
  REQUIRE_THAT(file->blocking().write(0, disk), IsOk());
  REQUIRE(storage.content("source").stat().allocated == 1 * kMiB);
  REQUIRE_THAT(run_convert(storage, options_for("source", "out", "raw")), IsOk());
  REQUIRE(is_equal(storage.bytes("out"), disk));
  // The first page is allocated when the file is created.
  REQUIRE(storage.content("out").stat().allocated == 68 * kKiB);
}

TEST_CASE("Convert: -S 0 writes everything", "[engine]") {
  MemStorage storage;
  storage.content("source");
  storage.add("source", Bytes(1 * kMiB));
  ConvertOptions options = options_for("source", "out", "raw");
  options.sparse_size = 0;
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  REQUIRE(storage.content("out").stat().allocated == 1 * kMiB);
}

TEST_CASE("Convert: -n zeroes what is zero in the source and leaves the rest of the target",
          "[engine]") {
  MemStorage storage;
  Bytes disk(256 * kKiB);
  fill_pattern(std::span(disk).first(64 * kKiB), 0);
  storage.add("source", disk);
  storage.add("out", pattern(0, 512 * kKiB, 7));
  ConvertOptions options = options_for("source", "out", "raw");
  options.skip_create = true;
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  Bytes expected = pattern(0, 512 * kKiB, 7);
  std::copy(disk.begin(), disk.end(), expected.begin());
  REQUIRE(is_equal(storage.bytes("out"), expected));
}

TEST_CASE("Convert: -c leaves what an existing target holds behind the source's last cluster part",
          "[engine]") {
  MemStorage storage;
  const Bytes disk = pattern(0, 64 * kKiB + 3 * kSectorSize);
  const Bytes old = pattern(0, 256 * kKiB, 7);
  storage.add("source", disk);
  storage.add("old", old);
  REQUIRE_THAT(run_convert(storage, options_for("old", "out", "qcow2")), IsOk());
  ConvertOptions options = options_for("source", "out", "qcow2");
  options.skip_create = true;
  options.compress = true;
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  Bytes expected = old;
  std::copy(disk.begin(), disk.end(), expected.begin());
  REQUIRE(is_equal(guest_bytes(storage, "out"), expected));
}

TEST_CASE("Convert: a preallocated target keeps the clusters that stay zero", "[engine]") {
  MemStorage storage;
  Bytes disk(1 * kMiB);
  fill_pattern(std::span(disk).first(64 * kKiB), 0);
  storage.add("source", disk);
  ConvertOptions options = options_for("source", "out", "qcow2");
  options.target_options =
      GENERATE("preallocation=metadata", "preallocation=falloc", "preallocation=full");
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  RecordingMessages messages;
  ImageRequest request;
  request.name = "out";
  const auto chain = run_inline(open_image(storage, request, messages));
  REQUIRE_THAT(chain, IsOk());
  for (uint64_t guest_offset = 0; guest_offset < disk.size();) {
    const auto extents = run_inline((*chain)->top().map(guest_offset, disk.size() - guest_offset));
    REQUIRE_THAT(extents, IsOk());
    for (const Extent& extent : *extents) REQUIRE(extent.has_host_offset);
    guest_offset = extents->back().guest_end();
  }
  REQUIRE(is_equal(guest_bytes(storage, "out"), disk));
}

TEST_CASE("Convert: --target-is-zero is believed", "[engine]") {
  MemStorage storage;
  storage.add("source", Bytes(64 * kKiB));
  storage.add("out", pattern(0, 64 * kKiB));
  ConvertOptions options = options_for("source", "out", "raw");
  options.skip_create = true;
  options.target_is_zero = true;
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  REQUIRE(is_equal(storage.bytes("out"), pattern(0, 64 * kKiB)));
}

TEST_CASE("Convert: what is refused is refused before the target is touched", "[engine]") {
  MemStorage storage;
  storage.add("source", pattern(0, 64 * kKiB));
  const Bytes old = pattern(0, 1234);
  storage.add("out", old);
  struct Row {
    ConvertOptions options;
    std::string text;
  };
  std::vector<Row> rows;
  rows.push_back({options_for("source", "out", "nope"), "Unknown file format 'nope'"});
  rows.push_back(
      {options_for("source", "out", "raw"), "Compression not supported for this file format"});
  rows.back().options.compress = true;
  rows.push_back(
      {options_for("source", "out", "raw"), "Backing file not supported for file format 'raw'"});
  rows.back().options.backing_file = "base";
  rows.push_back({options_for("source", "out", "qcow2"),
                  "Use of backing file requires explicit backing format"});
  rows.back().options.backing_file = "base";
  rows.push_back({options_for("source", "out", "qcow2"),
                  "Compression and preallocation not supported at the same time"});
  rows.back().options.compress = true;
  rows.back().options.target_options = "preallocation=full";
  rows.push_back({options_for("source", "out", "qcow2"), "Invalid parameter 'foo'"});
  rows.back().options.target_options = "foo=1";
  rows.push_back({options_for("source", "out", "qcow2"),
                  "out: error while converting qcow2: Cluster size must be a power of two between "
                  "512 and 2048k"});
  rows.back().options.target_options = "cluster_size=1000";
  rows.push_back(
      {options_for("source", "out", "qcow2"), "No support for concatenating multiple snapshot"});
  rows.back().options.snapshot = SnapshotSelector{"x", {}, {}};
  rows.back().options.sources.push_back("source");
  rows.push_back({options_for("source", "out", "raw"),
                  "Failed to load snapshot: Block format 'raw' used by device '' does not support "
                  "temporarily loading internal snapshots"});
  rows.back().options.snapshot = SnapshotSelector{{}, "1", {}};
  rows.push_back({options_for("source", "nowhere", "raw"),
                  "Cannot use --target-is-zero when the destination image has a backing file"});
  rows.back().options.skip_create = true;
  rows.back().options.target_is_zero = true;
  rows.back().options.backing_file = "source";
  rows.push_back({options_for("source", "driver=raw,file.filename=out", "raw"),
                  "--image-opts and --format are mutually exclusive"});
  rows.back().options.skip_create = true;
  rows.back().options.target_image_opts = true;
  for (const Row& row : rows) {
    REQUIRE_THAT(run_convert(storage, row.options), FailsSaying(row.text));
    REQUIRE(is_equal(storage.bytes("out"), old));
  }
}

TEST_CASE("Convert: a bad sector is reported with the offset of its request", "[engine]") {
  FaultScript script;
  MemStorage storage;
  storage.add("source", pattern(0, 6 * kMiB));
  storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<FaultFile>(std::move(inner), script);
  });
  script.fail_range(FileOperation::kRead, 5 * kMiB + 512, 512, EIO);
  ConvertOptions options = options_for("source", "out", "raw");
  options.source_format = "raw";
  REQUIRE_THAT(run_convert(storage, options),
               FailsSaying("error while reading at byte 4194304: Input/output error"));
}

TEST_CASE("Convert: a full device is reported with the offset of the request", "[engine]") {
  MemStorage storage;
  storage.add("source", pattern(0, 6 * kMiB));
  MemFileTraits traits;
  traits.capacity = 3 * kMiB;
  storage.add("out", traits);
  ConvertOptions options = options_for("source", "out", "raw");
  options.coroutines = 1;
  REQUIRE_THAT(run_convert(storage, options),
               FailsSaying("error while writing at byte 2097152: No space left on device"));
}

TEST_CASE("Convert: --salvage makes zeros of bad sectors and of nothing else", "[engine]") {
  FaultScript script;
  MemStorage storage;
  const Bytes disk = pattern(0, 1 * kMiB);
  storage.add("source", disk);
  storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<FaultFile>(std::move(inner), script);
  });
  ConvertOptions options = options_for("source", "out", "raw");
  options.source_format = "raw";
  options.salvage = true;
  options.coroutines = 1;
  // The target must not suffer, so the rule is about reads, and nobody reads a new raw target.
  script.fail_range(FileOperation::kRead, 8 * kKiB, 1024, EIO);
  RecordingMessages messages;
  const auto result = run_inline(convert(storage, options, messages));
  REQUIRE_THAT(result, IsOk());
  Bytes expected = disk;
  std::memset(expected.data() + 8 * kKiB, 0, 1024);
  REQUIRE(is_equal(storage.bytes("out"), expected));
  REQUIRE(messages.warnings ==
          std::vector<std::string>{"error while reading offset 8192: Input/output error",
                                   "error while reading offset 8704: Input/output error"});
}

TEST_CASE("Convert: progress rises from nothing to all", "[engine]") {
  MemStorage storage;
  storage.add("source", random_disk(6, 20 * 2048));
  RecordingMessages messages;
  const ConvertOptions options = options_for("source", "out", "raw");
  REQUIRE_THAT(run_inline(convert(storage, options, messages)), IsOk());
  REQUIRE(messages.steps.size() > 3);
  REQUIRE(messages.steps.back() == std::pair<uint64_t, uint64_t>(20 * kMiB, 20 * kMiB));
  for (size_t i = 1; i < messages.steps.size(); ++i) {
    REQUIRE(messages.steps[i].first >= messages.steps[i - 1].first);
  }
}

TEST_CASE("Convert: progress that counts first is of the data alone", "[engine]") {
  MemStorage storage;
  std::vector<std::byte> disk(20 * kMiB);
  std::ranges::copy(pattern(0, kMiB), disk.begin() + 4 * kMiB);
  std::ranges::copy(pattern(0, kMiB), disk.begin() + 12 * kMiB);
  storage.add("source", disk);
  RecordingMessages messages;
  ConvertOptions options = options_for("source", "out", "raw");
  options.counts_data = true;
  REQUIRE_THAT(run_inline(convert(storage, options, messages)), IsOk());
  REQUIRE(messages.steps ==
          std::vector<std::pair<uint64_t, uint64_t>>{{kMiB, 2 * kMiB}, {2 * kMiB, 2 * kMiB}});
}

TEST_CASE("Convert: a raw target is written once, in order, with one worker", "[engine]") {
  TraceLog log;
  MemStorage storage;
  storage.add("source", pattern(0, 5 * kMiB));
  storage.set_wrapper([&log](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<TraceFile>(std::move(inner), log);
  });
  ConvertOptions options = options_for("source", "out", "raw");
  options.source_format = "raw";
  options.coroutines = 1;
  REQUIRE_THAT(run_convert(storage, options), IsOk());
  std::vector<std::string> writes;
  for (const TraceEntry& entry : log.entries(FileOperation::kWrite)) {
    if (entry.length > 4096) writes.push_back(to_string(entry));
  }
  REQUIRE(writes == std::vector<std::string>{"write 0+2097152", "write 2097152+2097152",
                                             "write 4194304+1048576"});
}

}  // namespace
}  // namespace imgconv
