// The power fails while bitmaps are changed or record writes: leaks are the worst, and a bitmap
// that calls itself consistent has every write.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>

#include "tests/formats/qcow2_crash.h"
#include "tests/support/qcow2_bitmaps.h"

namespace imgconv::test {

namespace {

constexpr uint64_t kDiskSize = 256 * kKiB;
constexpr uint64_t kGranularity = 4096;
constexpr uint32_t kSeed = 20266;

void add(Qcow2Disk& disk, const std::string& name, bool is_enabled) {
  PersistentBitmap bitmap;
  bitmap.name = name;
  bitmap.granularity = kGranularity;
  bitmap.is_enabled = is_enabled;
  REQUIRE_THAT(disk.image->bitmaps()->check_new(name, kGranularity), IsOk());
  REQUIRE_THAT(run_inline(disk.image->bitmaps()->add(bitmap)), IsOk());
}

void mark(Qcow2Disk& disk, size_t index, uint64_t begin, uint64_t end) {
  const std::vector<GuestRange> ranges = {{begin, end}};
  REQUIRE_THAT(run_inline(disk.image->bitmaps()->mark(index, ranges)), IsOk());
}

std::vector<std::byte> guest_of(const CrashState& state) {
  Qcow2Disk crashed;
  for (const auto& [name, bytes] : state.files) crashed.storage.add(name, bytes);
  crashed.open(false);
  return crashed.read(0, kDiskSize);
}

using Bitmaps = std::vector<StoredBitmap>;

Bitmaps bitmaps_of(const CrashState& state) {
  return read_bitmaps(state.files.at(Qcow2Disk::kName)).value_or(Bitmaps());
}

const char* any_options() {
  return GENERATE("cluster_size=512", "cluster_size=4k", "cluster_size=64k",
                  "cluster_size=64k,backing_file=base.raw,backing_fmt=raw",
                  "cluster_size=16k,extended_l2=on");
}

}  // namespace

TEST_CASE("Bitmaps: a crash leaves the bitmaps as they were or as they were to be",
          "[formats][qcow2][crash]") {
  const char* const options = any_options();
  INFO("options " << options);
  Qcow2Disk disk;
  disk.create(kDiskSize, options);
  const auto judge_step = [&disk](auto&& change, size_t bitmaps_before, size_t bitmaps_after) {
    const Bitmaps before = read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)).value_or(Bitmaps());
    Qcow2CrashTest test(disk);
    disk.open(true);
    change();
    disk.close();
    const Bitmaps after = read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)).value_or(Bitmaps());
    CHECK(before.size() == bitmaps_before);
    CHECK(after.size() == bitmaps_after);
    bool is_old_or_new = true;
    test.log().for_each_state(kSeed, 12, [&](const CrashState& state) {
      const Bitmaps found = bitmaps_of(state);
      is_old_or_new = is_old_or_new && (found == before || found == after);
    });
    CHECK(is_old_or_new);
    test.judge(kSeed);
  };
  BitmapStore* store = nullptr;
  const auto first = [&] {
    add(disk, "first", false);
    mark(disk, 0, 0, 5 * kGranularity);
  };
  const auto second = [&] {
    add(disk, "second", false);
    mark(disk, 0, 100 * kKiB, 120 * kKiB);
    mark(disk, 1, 0, kDiskSize);
  };
  const auto clear_one = [&] {
    store = disk.image->bitmaps();
    REQUIRE_THAT(run_inline(store->clear(1)), IsOk());
    REQUIRE_THAT(run_inline(store->set_enabled(0, true)), IsOk());
  };
  const auto remove_first = [&] {
    REQUIRE_THAT(run_inline(disk.image->bitmaps()->remove(0)), IsOk());
  };
  judge_step(first, 0, 1);
  judge_step(second, 1, 2);
  judge_step(clear_one, 2, 2);
  judge_step(remove_first, 2, 1);
  judge_step(remove_first, 1, 0);
}

TEST_CASE("Bitmaps: after a crash a consistent bitmap has every write that reached the medium",
          "[formats][qcow2][crash]") {
  const char* const options = any_options();
  INFO("options " << options);
  Qcow2Disk disk;
  disk.create(kDiskSize, options);
  disk.open(true);
  disk.write(0, pattern(0, kDiskSize / 2, 1));
  add(disk, "on", true);
  add(disk, "off", false);
  disk.close();
  disk.open(false);
  const std::vector<std::byte> old_guest = disk.read(0, kDiskSize);
  disk.image.reset();

  Qcow2CrashTest test(disk);
  disk.open(true);
  test.write(10 * kKiB, pattern(0, 9 * kKiB, 2));
  test.flush();
  test.write_zeroes(60 * kKiB, 30 * kKiB, true);
  test.write(200 * kKiB, pattern(0, kKiB, 3));
  disk.close();
  size_t consistent_states = 0;
  bool has_every_write = true;
  bool is_other_as_it_was = true;
  test.log().for_each_state(kSeed, 12, [&](const CrashState& state) {
    const Bitmaps bitmaps = bitmaps_of(state);
    is_other_as_it_was =
        is_other_as_it_was && bitmaps.size() == 2 && bitmaps[1] == StoredBitmap{"off", 0, 12, {}};
    if (!is_other_as_it_was || (bitmaps[0].flags & kBitmapInUse) != 0) return;
    ++consistent_states;
    const std::vector<std::byte> guest = guest_of(state);
    for (uint64_t at = 0; at < kDiskSize; at += kGranularity) {
      const bool is_same = std::equal(guest.begin() + static_cast<ptrdiff_t>(at),
                                      guest.begin() + static_cast<ptrdiff_t>(at + kGranularity),
                                      old_guest.begin() + static_cast<ptrdiff_t>(at));
      const bool is_marked = std::ranges::binary_search(bitmaps[0].dirty, at / kGranularity);
      has_every_write = has_every_write && (is_same || is_marked);
    }
  });
  CHECK(has_every_write);
  CHECK(is_other_as_it_was);
  CHECK(consistent_states > 0);
  test.judge(kSeed);
}

TEST_CASE("Bitmaps: a crash while the disk is resized leaves them fitting or marked as in use",
          "[formats][qcow2][crash]") {
  const char* const options = any_options();
  const uint64_t new_size = GENERATE(kDiskSize / 2 + 512, 5 * kMiB);
  INFO("options " << options << ", new size " << new_size);
  Qcow2Disk disk;
  disk.create(kDiskSize, options);
  disk.open(true);
  disk.write(0, pattern(0, kDiskSize));
  add(disk, "on", true);
  add(disk, "off", false);
  mark(disk, 0, 30 * kKiB, 40 * kKiB);
  mark(disk, 1, kDiskSize / 2, kDiskSize);
  disk.close();
  const Bitmaps before = read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)).value();
  CrashLog log(disk.storage);
  log.start();
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->resize({new_size, Preallocation::kOff, kDiskSize})), IsOk());
  disk.close();
  const Bitmaps after = read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)).value();
  CHECK(after[0] == before[0]);
  CHECK(after[1].dirty.size() == (new_size < kDiskSize ? 1 : before[1].dirty.size()));

  size_t states_in_use = 0;
  log.for_each_state(kSeed, 6, [&](const CrashState& state) {
    INFO(state.description);
    Qcow2Disk crashed;
    for (const auto& [name, bytes] : state.files) crashed.storage.add(name, bytes);
    REQUIRE_THAT(crashed.try_open(false), IsOk());
    const Bitmaps& expected = crashed.size() == new_size ? after : before;
    const Bitmaps found = bitmaps_of(state);
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      const bool is_in_use = (found[i].flags & kBitmapInUse) != 0;
      states_in_use += is_in_use;
      REQUIRE((is_in_use || found[i] == expected[i]));
    }
    std::string lines;
    const Result<CheckReport> report = run_inline(
        crashed.image->check([&lines](const std::string& line) { lines += line + "\n"; }));
    INFO(lines);
    REQUIRE_THAT(report, IsOk());
    REQUIRE(report->corruptions + report->check_errors == 0);
  });
  CHECK(states_in_use > 0);
}

}  // namespace imgconv::test
