#include "engine/convert.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "loop/units.h"
#include "tests/support/fault_file.h"
#include "tests/support/manual_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/recording_messages.h"
#include "tests/support/trace_file.h"

namespace imgconv {
namespace {

using namespace imgconv::test;
using Bytes = std::vector<std::byte>;

/// For disks of MiB: Catch would print both sides of a failed ==.
bool is_equal(const Bytes& a, const Bytes& b) { return a == b; }

ConvertOptions options_for(const std::string& source, const std::string& target,
                           const std::string& format) {
  ConvertOptions options;
  options.sources = {source};
  options.target = target;
  options.target_format = format;
  return options;
}

/// Data, written zeros and lone zero sectors, from the seed alone.
Bytes random_disk(uint64_t seed, size_t sectors) {
  std::mt19937_64 random(seed);
  Bytes disk(sectors * kSectorSize);
  for (size_t at = 0; at < sectors;) {
    const size_t length = std::min(sectors - at, size_t{1} + random() % 400);
    if (random() % 2 == 0) {
      fill_pattern(std::span(disk).subspan(at * kSectorSize, length * kSectorSize),
                   at * kSectorSize);
    }
    at += length;
  }
  return disk;
}

Result<ConvertSummary> run_convert(MemStorage& storage, const ConvertOptions& options) {
  RecordingMessages messages;
  return run_inline(convert(storage, options, messages));
}

/// The guest's bytes of an image, as read by converting it to raw.
Bytes guest_bytes(MemStorage& storage, const std::string& name) {
  storage.set_wrapper({});
  const auto result = run_convert(storage, options_for(name, "guest-bytes.raw", "raw"));
  REQUIRE_THAT(result, IsOk());
  return storage.bytes("guest-bytes.raw");
}

struct Outcome {
  Bytes target;
  uint64_t allocated = 0;
};

/// One conversion with completions in the order of `seed`.
Outcome convert_shuffled(const Bytes& source, ConvertOptions options, unsigned coroutines,
                         uint64_t seed) {
  ManualExecutor executor;
  MemStorage storage(executor);
  storage.add("source", source);
  RecordingMessages messages;
  options.coroutines = coroutines;
  const Result<ConvertSummary> result =
      run_shuffled(executor, convert(storage, options, messages), seed);
  REQUIRE_THAT(result, IsOk());
  return {storage.bytes(options.target), storage.content(options.target).stat().allocated};
}

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
  rows.back().options.snapshot = "x";
  rows.back().options.sources.push_back("source");
  rows.push_back(
      {options_for("source", "out", "qcow2"), "Failed in parsing snapshot param 'snapshot.foo=x'"});
  rows.back().options.snapshot = "snapshot.foo=x";
  for (const Row& row : rows) {
    REQUIRE_THAT(run_convert(storage, row.options), FailsSaying(row.text));
    REQUIRE(is_equal(storage.bytes("out"), old));
  }
}

TEST_CASE("Convert: the order in which requests finish does not change a raw target", "[engine]") {
  const Bytes disk = random_disk(3, 9 * 2048 + 5);
  const ConvertOptions options = options_for("source", "out", "raw");
  const Outcome single = convert_shuffled(disk, options, 1, 0);
  REQUIRE(is_equal(single.target, disk));
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    const Outcome shuffled = convert_shuffled(disk, options, seed % 2 == 0 ? 16 : 4, seed);
    REQUIRE(is_equal(shuffled.target, single.target));
    REQUIRE(shuffled.allocated == single.allocated);
  }
}

TEST_CASE("Convert: the order in which requests finish does not change one byte of a qcow2 file",
          "[engine]") {
  const Bytes disk = random_disk(4, 5 * 2048 + 3);
  for (const bool compress : {false, true}) {
    ConvertOptions options = options_for("source", "out", "qcow2");
    options.compress = compress;
    options.target_options = "cluster_size=4096";
    const Outcome single = convert_shuffled(disk, options, 1, 0);
    for (uint64_t seed = 1; seed <= 12; ++seed) {
      INFO("seed " << seed << ", compress " << compress);
      const Outcome shuffled = convert_shuffled(disk, options, seed % 2 == 0 ? 16 : 3, seed);
      REQUIRE(is_equal(shuffled.target, single.target));
    }
    MemStorage storage;
    storage.add("image", single.target);
    REQUIRE(is_equal(guest_bytes(storage, "image"), disk));
  }
}

/// Fails the k-th operation for every k. Each run must end, fail with a text, or be right.
void fail_every_step(const Bytes& source, const ConvertOptions& options, const Bytes& guest,
                     int errno_value) {
  uint64_t step = 1;
  for (;; ++step) {
    INFO("operation " << step);
    FaultScript script;
    ManualExecutor executor;
    MemStorage storage(executor);
    storage.add(options.sources.front(), source);
    storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
      return std::make_unique<FaultFile>(std::move(inner), script);
    });
    script.fail_nth(kAnyOperation, step, errno_value);
    RecordingMessages messages;
    const Result<ConvertSummary> result =
        run_shuffled(executor, convert(storage, options, messages), step);
    if (result) {
      MemStorage reader;
      reader.add("image", storage.bytes(options.target));
      REQUIRE(is_equal(guest_bytes(reader, "image"), guest));
      if (script.fired() == 0) break;
    } else {
      REQUIRE(script.fired() == 1);
      REQUIRE(result.error().text().find(errno_text(errno_value)) != std::string::npos);
    }
  }
  REQUIRE(step > 5);
}

TEST_CASE("Convert: each failing operation is an error, or did not matter", "[engine]") {
  const Bytes disk = random_disk(5, 2 * 2048 + 1);
  Qcow2Builder builder;
  builder.cluster_bits(12).size(64 * kKiB);
  Bytes expected(64 * kKiB);
  for (uint64_t cluster : {0, 1, 5, 9}) {
    const Bytes bytes = pattern(cluster * 4096, 4096);
    std::copy(bytes.begin(), bytes.end(),
              expected.begin() + static_cast<std::ptrdiff_t>(cluster * 4096));
    if (cluster == 5) {
      builder.compressed(cluster, bytes);
    } else {
      builder.data(cluster, bytes);
    }
  }
  ConvertOptions small_clusters = options_for("source", "out", "qcow2");
  small_clusters.target_options = "cluster_size=4096";
  ConvertOptions compressed = small_clusters;
  compressed.compress = true;
  SECTION("raw to raw") { fail_every_step(disk, options_for("source", "out", "raw"), disk, EIO); }
  SECTION("raw to qcow2") { fail_every_step(disk, small_clusters, disk, ENOSPC); }
  SECTION("raw to compressed qcow2") { fail_every_step(disk, compressed, disk, ENOSPC); }
  SECTION("qcow2 to raw") {
    fail_every_step(builder.bytes(), options_for("source", "out", "raw"), expected, EIO);
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

TEST_CASE("Convert: a full device is reported with the offset of the write", "[engine]") {
  MemStorage storage;
  storage.add("source", pattern(0, 6 * kMiB));
  MemFileTraits traits;
  traits.capacity = 3 * kMiB;
  storage.add("out", traits);
  REQUIRE_THAT(run_convert(storage, options_for("source", "out", "raw")),
               FailsWith(ENOSPC, "error while writing at byte "));
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
  REQUIRE(messages.steps.front().first == 0);
  REQUIRE(messages.steps.back() == std::pair<uint64_t, uint64_t>(20 * kMiB, 20 * kMiB));
  for (size_t i = 1; i < messages.steps.size(); ++i) {
    REQUIRE(messages.steps[i].first >= messages.steps[i - 1].first);
  }
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
