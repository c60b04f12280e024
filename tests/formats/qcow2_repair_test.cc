// check -r: what is repaired, and that a crash in the middle leaves nothing worse. The genuine tool
// is the judge of the results in tests/cli/repair_differential.py.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <memory>

#include "formats/byteorder.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/header.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/crash_log.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::qcow2 {
namespace {

using test::BuilderSnapshot;
using test::FailsWith;
using test::IsOk;
using test::MemStorage;
using test::Qcow2Builder;
using test::run_inline;
using Lines = std::vector<std::string>;

constexpr const char* kName = "image.qcow2";

struct Outcome {
  Result<CheckReport> report;
  Lines lines;
};

/// Checks, or repairs, the image of this name.
Outcome run_on(MemStorage& storage, RepairMode mode) {
  const std::unique_ptr<File> file = storage.file(kName);
  auto header = run_inline(read_header(
      *file, {.writable = true, .for_check = true, .incomplete_size = {}, .metadata_only = false}));
  if (!header) return {header.error(), {}};
  Lines lines;
  const CheckSink sink = [&lines](const std::string& line) { lines.push_back(line); };
  auto report = mode == RepairMode::kNone ? run_inline(check(*file, *header, sink))
                                          : run_inline(repair(*file, *header, mode, sink));
  return {std::move(report), lines};
}

uint64_t damage_of(const CheckReport& report) { return report.corruptions + report.check_errors; }

/// What `lines` the repair gives; the image is clean afterwards.
Lines repair_fully(MemStorage& storage, RepairMode mode = RepairMode::kAll) {
  const Outcome outcome = run_on(storage, mode);
  REQUIRE_THAT(outcome.report, IsOk());
  const Outcome again = run_on(storage, RepairMode::kNone);
  REQUIRE_THAT(again.report, IsOk());
  CHECK(again.lines == Lines());
  CHECK(damage_of(*again.report) + again.report->leaks == 0);
  return outcome.lines;
}

Lines repair_fully(const Qcow2Builder& builder, RepairMode mode = RepairMode::kAll) {
  MemStorage storage;
  storage.add(kName, builder.bytes());
  return repair_fully(storage, mode);
}

/// 64 KiB clusters: header, refcount table 1, block 2, L1 3, L2 4, data 5 and 6.
Qcow2Builder two_clusters() {
  const std::vector<std::byte> data(512, std::byte{1});
  return Qcow2Builder().size(kMiB).data(0, data).data(1, data);
}

TEST_CASE("repair: -r leaks lowers counts and leaves the rest alone", "[formats][qcow2]") {
  CHECK(repair_fully(two_clusters().set_refcount(6, 2), RepairMode::kLeaks) ==
        Lines{"Leaked cluster 6 refcount=2 reference=1",
              "Repairing cluster 6 refcount=2 reference=1"});
  MemStorage storage;
  storage.add(kName, two_clusters().l2(2, 0x60000).set_refcount(6, 1).bytes());
  const Outcome outcome = run_on(storage, RepairMode::kLeaks);
  CHECK(outcome.lines == Lines{"ERROR cluster 6 refcount=1 reference=2",
                               "ERROR cluster 6 refcount=1 reference=2",
                               "ERROR OFLAG_COPIED data cluster: l2_entry=60000 refcount=1"});
  REQUIRE_THAT(outcome.report, IsOk());
  CHECK(outcome.report->corruptions == 2);
  CHECK(outcome.report->corruptions_fixed == 0);
}

TEST_CASE("repair: -r all raises counts, then clears copied bits", "[formats][qcow2]") {
  CHECK(repair_fully(two_clusters().l2(2, 0x60000).set_refcount(6, 1)) ==
        Lines{"ERROR cluster 6 refcount=1 reference=2",
              "Repairing cluster 6 refcount=1 reference=2",
              "Repairing OFLAG_COPIED data cluster: l2_entry=8000000000060000 refcount=2"});
}

TEST_CASE("repair: counts of every width are repaired in place", "[formats][qcow2]") {
  const std::vector<std::byte> data(512, std::byte{1});
  for (const uint32_t order : {1U, 2U, 3U, 4U, 5U, 6U}) {
    CAPTURE(order);
    const Lines lines = repair_fully(Qcow2Builder()
                                         .cluster_bits(9)
                                         .refcount_order(order)
                                         .size(64 * kKiB)
                                         .data(0, data)
                                         .data(1, data)
                                         .set_refcount(5, 2));
    CHECK(lines.size() == 2);
  }
}

TEST_CASE("repair: a lost count has the structures rebuilt, and the old ones freed",
          "[formats][qcow2]") {
  const Qcow2Builder image = two_clusters().set_refcount(6, 0);
  CHECK(repair_fully(image) == Lines{"ERROR cluster 6 refcount=0 reference=1",
                                     "Rebuilding refcount structure",
                                     "Repairing cluster 1 refcount=1 reference=0",
                                     "Repairing cluster 2 refcount=1 reference=0"});
  MemStorage storage;
  storage.add(kName, image.bytes());
  const Outcome outcome = run_on(storage, RepairMode::kLeaks);
  CHECK(outcome.lines.back() == "ERROR need to rebuild refcount structures");
  CHECK_THAT(outcome.report, FailsWith(EIO, ""));
}

TEST_CASE("repair: a rebuild makes as many blocks as it needs, its own included",
          "[formats][qcow2]") {
  // 64 clusters to a block; the file is full, so that all goes behind its end.
  Qcow2Builder builder;
  builder.cluster_bits(9).refcount_order(6).size(256 * kKiB);
  for (uint64_t i = 0; i < 500; ++i) {
    builder.data(i, std::vector<std::byte>(512, static_cast<std::byte>(i)));
  }
  const auto built = builder.build();
  Qcow2Builder damaged = builder;
  damaged.poke_be64(built.refcount_table_offset, 0);
  const Lines lines = repair_fully(damaged);
  CHECK(lines.size() > 64);
}

TEST_CASE("repair: a misplaced refcount block is replaced", "[formats][qcow2]") {
  const uint64_t entry = GENERATE(0x20200, 0x20001, 0x30000, 0x10000000, 0xffffffffffff0000);
  CAPTURE(entry);
  repair_fully(two_clusters().poke_be64(0x10000, entry));
}

TEST_CASE("repair: nothing new is put where damaged entries point behind the end of the file",
          "[formats][qcow2]") {
  // Clusters 7 and 8 would be the next ones.
  const Qcow2Builder builder =
      two_clusters().l2(2, 0x70000).l2(3, 0x80000).l2(4, 0xa0000).set_refcount(6, 0);
  MemStorage storage;
  storage.add(kName, builder.bytes());
  run_on(storage, RepairMode::kAll);
  const Outcome again = run_on(storage, RepairMode::kNone);
  REQUIRE_THAT(again.report, IsOk());
  for (const std::string& line : again.lines) {
    CHECK_THAT(line, !Catch::Contains("reference=2"));
  }
}

TEST_CASE("repair: preallocated zeros at an impossible place become plain zeros",
          "[formats][qcow2]") {
  CHECK(repair_fully(two_clusters().l2(1, 0x8000000000060201)) ==
        Lines{"Repairing offset=60200: Preallocated cluster is not properly aligned; L2 entry "
              "corrupted.",
              "Leaked cluster 6 refcount=1 reference=0",
              "Repairing cluster 6 refcount=1 reference=0"});
}

TEST_CASE("repair: an L1 table that is an L2 table too is not written", "[formats][qcow2]") {
  MemStorage storage;
  storage.add(kName, two_clusters().l1(0, 0x8000000000030000).bytes());
  const auto before = storage.bytes(kName);
  const Outcome outcome = run_on(storage, RepairMode::kAll);
  CHECK_THAT(outcome.report, FailsWith(EIO, ""));
  CHECK(outcome.lines.back() ==
        "qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps with "
        "active L2 table); further corruption events will be suppressed");
  auto after = storage.bytes(kName);
  CHECK(after[79] == std::byte{2});
  CHECK(std::equal(after.begin() + 0x30000, after.begin() + 0x40000, before.begin() + 0x30000));
}

TEST_CASE("repair: snapshot entries are completed, and too much of them is dropped",
          "[formats][qcow2]") {
  BuilderSnapshot incomplete;
  incomplete.extra_data_size = 8;
  incomplete.vm_state_size = 77;
  BuilderSnapshot excessive;
  excessive.id = "2";
  excessive.name = "second";
  excessive.extra_data_size = 1500;
  MemStorage storage;
  storage.add(kName, two_clusters().snapshot(incomplete).snapshot(excessive).bytes());
  CHECK(repair_fully(storage) ==
        Lines{"Discarding too much extra metadata in snapshot table entry 1 (1500 > 1024)",
              "Repairing snapshot table entry 0 is incomplete"});
  test::Qcow2Disk disk;
  disk.storage.add(test::Qcow2Disk::kName, storage.bytes(kName));
  disk.open(false);
  const auto& snapshots = disk.image->info().snapshots;
  REQUIRE(snapshots.size() == 2);
  CHECK(snapshots[0].vm_state_size == 77);
  CHECK(snapshots[1].name == "second");
}

TEST_CASE("repair: an entry of the snapshot table counts as it will be, not as long as it was",
          "[formats][qcow2]") {
  BuilderSnapshot large;
  large.id = std::string(65535, 'i');
  large.name = std::string(65535, 'n');
  BuilderSnapshot excessive;
  excessive.extra_data_size = 120000;
  Qcow2Builder builder = two_clusters();
  // 511 entries of 131136 bytes leave 98368 of the 64 MiB that a table may have.
  for (int i = 0; i < 511; ++i) builder.snapshot(large);
  MemStorage storage;
  storage.add(kName, Qcow2Builder(builder).snapshot(excessive).bytes());
  const Lines lines = repair_fully(storage);
  REQUIRE_FALSE(lines.empty());
  CHECK(lines[0] ==
        "Discarding too much extra metadata in snapshot table entry 511 (120000 > 1024)");
  CHECK_FALSE(std::ranges::any_of(
      lines, [](const std::string& line) { return line.find("overhanging") != line.npos; }));
  test::Qcow2Disk disk;
  disk.storage.add(test::Qcow2Disk::kName, storage.bytes(kName));
  disk.open(false);
  CHECK(disk.image->info().snapshots.size() == 512);
}

TEST_CASE("repair: a new snapshot table is not put where damaged entries point",
          "[formats][qcow2]") {
  BuilderSnapshot incomplete;
  incomplete.extra_data_size = 8;
  const auto image = two_clusters().snapshot(incomplete).build();
  const uint64_t end = round_up(image.bytes.size(), 64 * kKiB);
  MemStorage storage;
  storage.add(kName, two_clusters()
                         .snapshot(incomplete)
                         .l2(2, end)
                         .l2(3, end + 64 * kKiB)
                         .l2(4, end + 192 * kKiB)
                         .bytes());
  run_on(storage, RepairMode::kAll);
  const auto bytes = storage.bytes(kName);
  CHECK(load_be<uint64_t>(bytes.data() + 64) == end + 128 * kKiB);
}

TEST_CASE("repair: nothing is put into a table of which the end is missing", "[formats][qcow2]") {
  // Four snapshots with names of 65000 bytes, the third with such an id, too. Of the table's four
  // clusters the file has two, 7 and 8, which nobody counts.
  constexpr uint64_t kTable = 7 * 64 * kKiB;
  auto bytes = two_clusters().set_refcount(6, 0).bytes();
  REQUIRE(bytes.size() <= kTable);
  bytes.resize(kTable + 128 * kKiB);
  store_be(bytes.data() + 60, uint32_t{4});
  store_be(bytes.data() + 64, kTable);
  for (uint64_t at = kTable; at + 64 * kKiB < bytes.size(); at += 65040) {
    store_be(bytes.data() + at + 14, uint16_t{65000});
    std::ranges::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at) + 40, 65000, std::byte{'n'});
  }
  constexpr uint64_t kThird = kTable + 2 * 65040;
  store_be(bytes.data() + kThird + 12, uint16_t{65000});
  store_be(bytes.data() + kThird + 14, uint16_t{65000});
  MemStorage storage;
  storage.add(kName, bytes);
  run_on(storage, RepairMode::kAll);
  const auto repaired = storage.bytes(kName);
  const auto is_name = [](std::byte byte) { return byte == std::byte{'n'}; };
  REQUIRE(repaired.size() >= bytes.size());
  CHECK(std::all_of(repaired.begin() + kTable + 40, repaired.begin() + kTable + 65040, is_name));
}

TEST_CASE("repair: snapshots that are where the header is are dropped", "[formats][qcow2]") {
  const uint64_t count = GENERATE(uint64_t{1}, uint64_t{0xffffffff});
  CAPTURE(count);
  // The number of snapshots, then the lower half of where they are.
  Qcow2Builder builder = two_clusters().poke_be64(60, count << 32);
  CHECK(repair_fully(builder) == Lines{fmt::format("Discarding {} overhanging snapshots", count)});
}

TEST_CASE("repair: the dirty and the corrupt bit go when all is well", "[formats][qcow2]") {
  MemStorage storage;
  storage.add(kName, two_clusters().incompatible(3).autoclear(128).bytes());
  repair_fully(storage);
  const auto bytes = storage.bytes(kName);
  CHECK(bytes[79] == std::byte{0});
  CHECK(bytes[95] == std::byte{0});
  storage.add(kName, two_clusters().incompatible(3).l2(0, 0x8000000000050200).bytes());
  run_on(storage, RepairMode::kAll);
  CHECK(storage.bytes(kName)[79] == std::byte{3});
}

TEST_CASE("open: a dirty image is repaired before it is written", "[formats][qcow2]") {
  test::Qcow2Disk disk;
  disk.storage.add(test::Qcow2Disk::kName,
                   two_clusters().incompatible(1).set_refcount(6, 0).bytes());
  disk.open(true);
  CHECK_FALSE(disk.image->info().is_dirty);
  disk.close();
  MemStorage storage;
  storage.add(kName, disk.storage.bytes(test::Qcow2Disk::kName));
  CHECK(run_on(storage, RepairMode::kNone).lines == Lines());
}

// ---- Crashes ----

/// Whatever is on the medium when a repair is cut off: not worse than before, and repairable.
void judge_every_crash(const std::vector<std::byte>& image) {
  MemStorage storage;
  storage.add(kName, image);
  const Outcome before = run_on(storage, RepairMode::kNone);
  REQUIRE_THAT(before.report, IsOk());
  test::CrashLog log(storage);
  log.start();
  REQUIRE_THAT(run_on(storage, RepairMode::kAll).report, IsOk());
  uint64_t states = 0;
  std::string failure;
  log.for_each_state(20264, 12, [&](const test::CrashState& state) {
    ++states;
    if (!failure.empty()) return;
    MemStorage crashed;
    crashed.add(kName, state.files.at(kName));
    const Outcome found = run_on(crashed, RepairMode::kNone);
    const bool is_no_worse = found.report && damage_of(*found.report) <= damage_of(*before.report);
    const bool is_repairable = run_on(crashed, RepairMode::kAll).report.has_value();
    const Outcome end = run_on(crashed, RepairMode::kNone);
    const bool is_clean = end.report && damage_of(*end.report) == 0;
    if (!is_no_worse || !is_repairable || !is_clean) failure = state.description;
  });
  INFO(failure);
  CHECK(failure.empty());
  CHECK(states > 2);
}

TEST_CASE("repair: a crash in the middle leaves nothing worse", "[formats][qcow2][crash]") {
  const std::vector<std::byte> data(512, std::byte{1});
  Qcow2Builder builder;
  builder.cluster_bits(9).size(64 * kKiB);
  for (uint64_t i = 0; i < 40; ++i) builder.data(i, data);
  BuilderSnapshot incomplete;
  incomplete.extra_data_size = 8;
  const std::map<std::string, Qcow2Builder> damages = {
      {"leaks", Qcow2Builder(builder).set_refcount(20, 3).set_refcount(30, 9)},
      {"too low", Qcow2Builder(builder).l2(50, 0x2000).l2(51, 0x2200)},
      {"lost counts", Qcow2Builder(builder).set_refcount(20, 0).set_refcount(21, 0)},
      {"incomplete snapshot", Qcow2Builder(builder).snapshot(incomplete)},
      {"all at once", Qcow2Builder(builder)
                          .snapshot(incomplete)
                          .l2(50, 0x2000)
                          .set_refcount(20, 0)
                          .set_refcount(30, 9)
                          .incompatible(3)},
  };
  for (const auto& [name, damage] : damages) {
    CAPTURE(name);
    judge_every_crash(damage.bytes());
  }
}

// ---- Hostile images: time ----

TEST_CASE("check: tables that are shared without end are counted in bounded time",
          "[formats][qcow2]") {
  // 65536 snapshots share an L1 table of 4096 entries, all of which show one L2 table.
  constexpr uint64_t kEntries = 4096;
  constexpr uint32_t kSnapshots = 65536;
  MemStorage storage;
  const auto built = Qcow2Builder()
                         .refcount_order(6)
                         .cluster_bits(16)
                         .size(kMiB)
                         .l1_entries(kEntries)
                         .data(0, std::vector<std::byte>(512, std::byte{1}))
                         .build();
  storage.add(kName, built.bytes);
  const uint64_t l2 = built.l2_offset_of_l1_index.at(0);
  const uint64_t table = 1 << 20;
  const auto put = [&storage](uint64_t offset, uint64_t value, unsigned width) {
    std::vector<std::byte> bytes(width);
    for (unsigned i = 0; i < width; ++i) {
      bytes[width - 1 - i] = static_cast<std::byte>(value >> (8 * i));
    }
    REQUIRE_THAT(storage.content(kName).write(offset, bytes), IsOk());
  };
  for (uint64_t i = 0; i < kEntries; ++i) put(built.l1_offset + i * 8, l2, 8);
  for (uint64_t i = 0; i < kSnapshots; ++i) {
    put(table + i * 64, built.l1_offset, 8);
    put(table + i * 64 + 8, kEntries, 4);
    put(table + i * 64 + 36, 24, 4);
  }
  put(60, kSnapshots, 4);
  put(64, table, 8);
  const Outcome outcome = run_on(storage, RepairMode::kNone);
  REQUIRE_THAT(outcome.report, IsOk());
  const uint64_t references = (kSnapshots + 1) * kEntries;
  CHECK(std::ranges::count(outcome.lines, "ERROR cluster 4 refcount=1 reference=" +
                                              std::to_string(references)) == 1);
  CHECK(outcome.report->allocated_clusters == kEntries);
}

}  // namespace
}  // namespace imgconv::qcow2
