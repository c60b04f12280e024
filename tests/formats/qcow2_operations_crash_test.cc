// The power fails at every point of an operation on a whole image: resize, snapshot, amend.
//
// Whatever a crash leaves, every cluster is counted at least as often as it is used, and the guest
// sees either the old disk or the new one. Copied bits may disagree with refcounts that leaked
// while a snapshot came or went: no order of writes avoids that, a check repairs it, and until then
// it harms nobody, as such a bit is never set where a snapshot shares the cluster.
#include <algorithm>
#include <catch2/catch.hpp>

#include "formats/qcow2/driver.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/crash_log.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

using Bytes = std::vector<std::byte>;
using Operation = std::function<Result<void>(Image&)>;

constexpr uint64_t kDiskSize = 128 * kKiB;
constexpr uint32_t kSeed = 4711;

Bytes read_disk(Qcow2Disk& disk) { return disk.read(0, disk.size()); }

/// A snapshot is shown in the size of the disk, whatever that is.
bool is_same_where_both_are(const Bytes& a, const Bytes& b) {
  const auto length = static_cast<ptrdiff_t>(std::min(a.size(), b.size()));
  return std::equal(a.begin(), a.begin() + length, b.begin());
}

std::optional<std::string> damage_of(Qcow2Disk& disk) {
  std::vector<std::string> lines;
  const Result<CheckReport> report =
      run_inline(disk.image->check([&lines](const std::string& line) { lines.push_back(line); }));
  if (!report) return "cannot be checked: " + report.error().text();
  for (const std::string& line : lines) {
    const bool is_tolerated = line.starts_with("Leaked") || line.find("OFLAG_COPIED") != line.npos;
    if (!is_tolerated && !line.empty()) return line;
  }
  return std::nullopt;
}

/// Runs the operation, and looks at every state that a crash in it can leave. With `snapshot` the
/// bytes of that one must be the same all the time.
void judge(Qcow2Disk& disk, const Operation& operation, const std::string& snapshot = "") {
  disk.open(false);
  const Bytes before = read_disk(disk);
  Bytes frozen;
  if (!snapshot.empty()) {
    REQUIRE_THAT(run_inline(disk.image->load_snapshot(snapshot)), IsOk());
    frozen = read_disk(disk);
  }
  disk.image.reset();
  CrashLog log(disk.storage);
  log.start();
  disk.open(true);
  REQUIRE_THAT(operation(*disk.image), IsOk());
  disk.close();
  disk.open(false);
  const Bytes after = read_disk(disk);
  CHECK(disk.check().empty());
  disk.image.reset();

  uint64_t states = 0;
  std::optional<std::string> failure;
  log.for_each_state(kSeed, 6, [&](const CrashState& state) {
    if (failure) return;
    ++states;
    Qcow2Disk crashed;
    for (const auto& [name, bytes] : state.files) crashed.storage.add(name, bytes);
    const Result<void> opened = crashed.try_open(false);
    if (!opened) {
      failure = "cannot be opened: " + opened.error().text();
    } else if (failure = damage_of(crashed); !failure) {
      const Bytes now = read_disk(crashed);
      if (now != before && now != after)
        failure = "the guest sees neither the old nor the new disk";
      if (!snapshot.empty() && run_inline(crashed.image->load_snapshot(snapshot)) &&
          !is_same_where_both_are(read_disk(crashed), frozen)) {
        failure = "the snapshot has changed";
      }
    }
    if (failure) failure = state.description + "\n" + *failure;
  });
  INFO(states << " states\n" << failure.value_or(""));
  REQUIRE_FALSE(failure.has_value());
  REQUIRE(states > 1);
}

Result<void> take(Image& image, const std::string& name) {
  SnapshotInfo info;
  info.name = name;
  return run_inline(image.create_snapshot(info));
}

Operation resize_to(uint64_t size, Preallocation mode = Preallocation::kOff) {
  return [size, mode](Image& image) { return run_inline(image.resize({size, mode, 0})); };
}

Operation amend_to(const std::string& options) {
  return [options](Image& image) {
    AmendRequest request;
    request.options = *parse_options(*qcow2_driver().amend_options(), options);
    return run_inline(image.amend(request));
  };
}

void fill(Qcow2Disk& disk, const std::string& options) {
  disk.create(kDiskSize, options);
  disk.open(true);
  for (uint64_t at = 0; at < kDiskSize; at += 16 * kKiB) disk.write(at, pattern(at, 8 * kKiB));
  disk.close();
}

/// An image with snapshot "old", and changes since.
void fill_with_snapshot(Qcow2Disk& disk, const std::string& options) {
  fill(disk, options);
  disk.open(true);
  REQUIRE_THAT(take(*disk.image, "old"), IsOk());
  for (uint64_t at = 0; at < kDiskSize; at += 32 * kKiB) disk.write(at, pattern(at, 4 * kKiB, 99));
  disk.close();
}

constexpr const char* kOptions[] = {"cluster_size=512", "cluster_size=4k",
                                    "cluster_size=4k,compat=0.10",
                                    "cluster_size=16k,extended_l2=on"};

}  // namespace

TEST_CASE("Resize: a crash leaves the old disk or the new one", "[formats][qcow2][crash]") {
  const char* const options = GENERATE(from_range(std::begin(kOptions), std::end(kOptions)));
  CAPTURE(options);
  Qcow2Disk growing;
  fill(growing, options);
  judge(growing, resize_to(4 * kMiB));
}

TEST_CASE("Resize: a crash while space is allocated leaves the old disk or the new one",
          "[formats][qcow2][crash]") {
  const char* const options = GENERATE("cluster_size=512", "cluster_size=16k,extended_l2=on",
                                       "cluster_size=4k,data_file=data.raw",
                                       "cluster_size=4k,data_file=data.raw,data_file_raw=on");
  const Preallocation mode = GENERATE(Preallocation::kMetadata, Preallocation::kFull);
  CAPTURE(options);
  Qcow2Disk disk;
  fill(disk, options);
  judge(disk, resize_to(2 * kDiskSize, mode));
}

TEST_CASE("Resize: a crash leaves snapshots as they were", "[formats][qcow2][crash]") {
  Qcow2Disk disk;
  fill_with_snapshot(disk, "cluster_size=512");
  judge(disk, resize_to(4 * kMiB), "old");
}

TEST_CASE("Resize: a crash while the disk shrinks leaves nothing worse than leaks",
          "[formats][qcow2][crash]") {
  const char* const options = GENERATE(from_range(std::begin(kOptions), std::end(kOptions)));
  CAPTURE(options);
  Qcow2Disk disk;
  fill(disk, options);
  // What is cut off may be gone before the size changes.
  CrashLog log(disk.storage);
  log.start();
  disk.open(true);
  REQUIRE_THAT(resize_to(kDiskSize / 2)(*disk.image), IsOk());
  disk.close();
  log.for_each_state(kSeed, 6, [&](const CrashState& state) {
    Qcow2Disk crashed;
    for (const auto& [name, bytes] : state.files) crashed.storage.add(name, bytes);
    REQUIRE_THAT(crashed.try_open(false), IsOk());
    const std::optional<std::string> damage = damage_of(crashed);
    INFO(state.description << "\n" << damage.value_or(""));
    REQUIRE_FALSE(damage.has_value());
    for (uint64_t at = 0; at < kDiskSize / 2; at += 16 * kKiB) {
      REQUIRE(is_pattern(crashed.read(at, 8 * kKiB), at));
    }
  });
}

TEST_CASE("make_empty: a crash leaves the old disk or an empty one", "[formats][qcow2][crash]") {
  // Refcount blocks of 64 clusters: most of them are dropped.
  Qcow2Disk disk;
  fill(disk, "cluster_size=512,refcount_bits=64");
  judge(disk, [](Image& image) { return run_inline(image.make_empty()); });
}

TEST_CASE("Snapshot: a crash while it is taken leaves the disk as it was",
          "[formats][qcow2][crash]") {
  const char* const options = GENERATE(from_range(std::begin(kOptions), std::end(kOptions)));
  CAPTURE(options);
  Qcow2Disk disk;
  fill_with_snapshot(disk, options);
  judge(
      disk, [](Image& image) { return take(image, "new"); }, "old");
}

TEST_CASE("Snapshot: a crash while it is applied leaves the old disk or the snapshot's",
          "[formats][qcow2][crash]") {
  const char* const options = GENERATE(from_range(std::begin(kOptions), std::end(kOptions)));
  CAPTURE(options);
  Qcow2Disk disk;
  fill_with_snapshot(disk, options);
  judge(
      disk, [](Image& image) { return run_inline(image.apply_snapshot("old")); }, "old");
}

TEST_CASE("Snapshot: a crash while one of another size is applied leaves either disk",
          "[formats][qcow2][crash]") {
  const char* const options = GENERATE("cluster_size=512", "cluster_size=4k");
  const uint64_t new_size = GENERATE(kDiskSize / 2, 2 * kMiB);
  CAPTURE(options, new_size);
  Qcow2Disk disk;
  fill_with_snapshot(disk, options);
  disk.open(true);
  REQUIRE_THAT(resize_to(new_size)(*disk.image), IsOk());
  disk.close();
  judge(
      disk, [](Image& image) { return run_inline(image.apply_snapshot("old")); }, "old");
}

TEST_CASE("Snapshot: a crash while it is deleted leaves the disk as it was",
          "[formats][qcow2][crash]") {
  const char* const options = GENERATE(from_range(std::begin(kOptions), std::end(kOptions)));
  CAPTURE(options);
  Qcow2Disk disk;
  fill_with_snapshot(disk, options);
  disk.open(true);
  REQUIRE_THAT(take(*disk.image, "second"), IsOk());
  disk.close();
  judge(
      disk, [](Image& image) { return run_inline(image.delete_snapshot("second")); }, "old");
}

TEST_CASE("Amend: a crash leaves an image that reads the same", "[formats][qcow2][crash]") {
  const auto [options, change] = GENERATE(table<const char*, const char*>({
      {"cluster_size=4k", "refcount_bits=64"},
      {"cluster_size=4k", "refcount_bits=2"},
      {"cluster_size=4k", "refcount_bits=1"},
      {"cluster_size=512", "refcount_bits=64"},
      {"cluster_size=4k", "lazy_refcounts=on"},
      {"cluster_size=4k,compat=0.10", "compat=1.1"},
      {"cluster_size=4k,compat=0.10", "compat=1.1,refcount_bits=8,lazy_refcounts=on"},
      {"cluster_size=512", "size=4194304"},
      {"cluster_size=4k,data_file=data.raw,data_file_raw=on", "data_file_raw=off"},
  }));
  CAPTURE(options, change);
  Qcow2Disk disk;
  fill(disk, options);
  judge(disk, amend_to(change));
}

TEST_CASE("Amend: a crash on the way to version 3 leaves snapshots as they were",
          "[formats][qcow2][crash]") {
  // Version 2 need not say how large the disk was; version 3 must, so the table is written anew.
  Qcow2Builder builder;
  builder.version(2).cluster_bits(12).size(kDiskSize);
  for (uint64_t i = 0; i < 32; i += 3) builder.data(i, pattern(i * 4 * kKiB, 4 * kKiB));
  BuilderSnapshot snapshot;
  snapshot.extra_data_size = 0;
  builder.snapshot(snapshot);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  judge(disk, amend_to("compat=1.1"), "snap");
}

TEST_CASE("Amend: a crash while zero clusters are expanded leaves an image that reads the same",
          "[formats][qcow2][crash]") {
  Qcow2Builder builder;
  builder.cluster_bits(12).size(kDiskSize);
  for (uint64_t i = 0; i < 32; i += 4) {
    builder.data(i, pattern(i * 4 * kKiB, 4 * kKiB)).zero_plain(i + 1).zero_alloc(i + 2);
  }
  builder.snapshot({});
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  judge(disk, amend_to("compat=0.10"), "snap");
}

}  // namespace imgconv::test
