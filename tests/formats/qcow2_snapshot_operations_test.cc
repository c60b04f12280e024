// Taking, applying and deleting snapshots: contents, refcounts, refusals, order of writes.
#include <catch2/catch.hpp>
#include <cerrno>

#include "formats/byteorder.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/trace_file.h"

namespace imgconv::test {

namespace {

constexpr uint64_t kCluster = 64 * kKiB;
constexpr uint16_t kFirstSeed = 11;
constexpr uint16_t kSecondSeed = 22;

Result<void> create(Qcow2Disk& disk, const std::string& name) {
  SnapshotInfo info;
  info.name = name;
  info.date_sec = 1000;
  info.icount = 0;
  return run_inline(disk.image->create_snapshot(info));
}

Result<void> apply(Qcow2Disk& disk, const std::string& name) {
  return run_inline(disk.image->apply_snapshot(name));
}

Result<void> remove(Qcow2Disk& disk, const std::string& name) {
  return run_inline(disk.image->delete_snapshot(name));
}

void reopen(Qcow2Disk& disk) {
  disk.close();
  disk.open(true);
}

std::vector<std::string> ids(Qcow2Disk& disk) {
  std::vector<std::string> all;
  for (const SnapshotInfo& info : disk.image->info().snapshots) all.push_back(info.id);
  return all;
}

}  // namespace

TEST_CASE("Snapshot: what is written after it was taken does not reach it, and it can come back",
          "[formats][qcow2]") {
  for (const char* options : {"", "cluster_size=512", "cluster_size=4k,refcount_bits=2",
                              "compat=0.10", "extended_l2=on", "refcount_bits=64"}) {
    CAPTURE(options);
    Qcow2Disk disk;
    disk.create(kMiB, options);
    disk.open(true);
    disk.write(0, pattern(0, kMiB / 2, kFirstSeed));
    REQUIRE_THAT(create(disk, "one"), IsOk());
    CHECK(disk.check().empty());
    disk.write(kMiB / 4, pattern(kMiB / 4, kMiB / 2, kSecondSeed));
    reopen(disk);
    CHECK(disk.check().empty());
    CHECK(is_pattern(disk.read(kMiB / 4, kMiB / 2), kMiB / 4, kSecondSeed));

    REQUIRE_THAT(apply(disk, "one"), IsOk());
    CHECK(is_pattern(disk.read(0, kMiB / 2), 0, kFirstSeed));
    CHECK(disk.read(kMiB / 2, kMiB / 2) == std::vector<std::byte>(kMiB / 2));
    disk.write(0, pattern(0, kCluster, kSecondSeed));
    reopen(disk);
    CHECK(disk.check().empty());
    REQUIRE_THAT(apply(disk, "1"), IsOk());
    CHECK(is_pattern(disk.read(0, kMiB / 2), 0, kFirstSeed));
    reopen(disk);
    CHECK(disk.check().empty());
  }
}

TEST_CASE("Snapshot: compressed clusters are shared, too", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  for (uint64_t i = 0; i < 4; ++i) {
    REQUIRE(disk.write_compressed(i * kCluster, pattern(i * kCluster, kCluster)));
  }
  REQUIRE_THAT(create(disk, "one"), IsOk());
  disk.write(0, std::vector<std::byte>(4 * kCluster));
  reopen(disk);
  CHECK(disk.check().empty());
  REQUIRE_THAT(apply(disk, "one"), IsOk());
  CHECK(is_pattern(disk.read(0, 4 * kCluster), 0));
  REQUIRE_THAT(remove(disk, "one"), IsOk());
  reopen(disk);
  CHECK(disk.check().empty());
  CHECK(is_pattern(disk.read(0, 4 * kCluster), 0));
}

TEST_CASE("Snapshot: ids go on from the highest number, names may be the same",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  for (const char* name : {"a", "a", "1"}) REQUIRE_THAT(create(disk, name), IsOk());
  CHECK(ids(disk) == std::vector<std::string>{"1", "2", "3"});
  REQUIRE_THAT(remove(disk, "a"), IsOk());
  CHECK(ids(disk) == std::vector<std::string>{"2", "3"});
  REQUIRE_THAT(create(disk, "b"), IsOk());
  reopen(disk);
  CHECK(ids(disk) == std::vector<std::string>{"2", "3", "4"});
}

TEST_CASE("Snapshot: deletion looks at names only", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(create(disk, "first"), IsOk());
  CHECK_THAT(remove(disk, "1"), FailsSaying("snapshot not found"));
  CHECK_THAT(apply(disk, "second"),
             FailsSaying("Failed to load snapshot: No such file or directory"));
}

TEST_CASE("Snapshot: after the last deletion everything is as if none had been taken",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kMiB / 2));
  for (const char* name : {"a", "b", "c"}) {
    REQUIRE_THAT(create(disk, name), IsOk());
    disk.write(0, pattern(0, kMiB / 4));
  }
  for (const char* name : {"b", "a", "c"}) {
    REQUIRE_THAT(remove(disk, name), IsOk());
    CHECK(disk.check().empty());
  }
  reopen(disk);
  CHECK(disk.check().empty());
  // In place again: the clusters are its own.
  const uint64_t before = disk.map(0, kCluster)[0].host_offset;
  disk.write(0, pattern(0, kCluster));
  CHECK(disk.map(0, kCluster)[0].host_offset == before);
}

TEST_CASE("Snapshot: the disk gets the size back that it had", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "cluster_size=512");
  disk.open(true);
  disk.write(0, pattern(0, kMiB));
  REQUIRE_THAT(create(disk, "small"), IsOk());
  REQUIRE_THAT(run_inline(disk.image->resize({8 * kMiB, Preallocation::kOff, 0})), IsOk());
  disk.write(7 * kMiB, pattern(7 * kMiB, 512));
  REQUIRE_THAT(create(disk, "large"), IsOk());
  REQUIRE_THAT(apply(disk, "small"), IsOk());
  CHECK(disk.size() == kMiB);
  CHECK(is_pattern(disk.read(0, kMiB), 0));
  REQUIRE_THAT(apply(disk, "large"), IsOk());
  reopen(disk);
  CHECK(disk.size() == 8 * kMiB);
  CHECK(is_pattern(disk.read(7 * kMiB, 512), 7 * kMiB));
  CHECK(disk.check().empty());
}

TEST_CASE("Snapshot: refcounts that are too narrow refuse it and nothing leaks",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "refcount_bits=1");
  disk.open(true);
  disk.write(0, pattern(0, 3 * kCluster));
  CHECK_THAT(create(disk, "one"), FailsWith(EINVAL));
  reopen(disk);
  CHECK(disk.check().empty());
  CHECK(ids(disk).empty());

  Qcow2Disk two_bits;
  two_bits.create(kMiB, "refcount_bits=2");
  two_bits.open(true);
  two_bits.write(0, pattern(0, 3 * kCluster));
  for (const char* name : {"a", "b"}) REQUIRE_THAT(create(two_bits, name), IsOk());
  CHECK_THAT(create(two_bits, "c"), FailsWith(EINVAL));
  reopen(two_bits);
  CHECK(two_bits.check().empty());
  CHECK(ids(two_bits).size() == 2);
}

TEST_CASE("Snapshot: not with an external data file", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "data_file=data");
  disk.open(true);
  CHECK_THAT(create(disk, "one"), FailsWith(ENOTSUP));
  CHECK_THAT(apply(disk, "one"), FailsSaying("Failed to load snapshot: Operation not supported"));
}

TEST_CASE("Snapshot: extra data of a later format survives a change of the table",
          "[formats][qcow2]") {
  BuilderSnapshot old;
  old.name = "old";
  old.extra_data_size = 40;
  old.vm_state_size = 77;
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, Qcow2Builder().size(kMiB).snapshot(old).bytes());
  disk.open(true);
  REQUIRE_THAT(create(disk, "new"), IsOk());
  disk.close();
  const std::vector<std::byte> file = disk.storage.bytes(Qcow2Disk::kName);
  const auto table = load_be<uint64_t>(&file[64]);
  CHECK(load_be<uint32_t>(&file[60]) == 2);
  CHECK(load_be<uint32_t>(&file[table + 36]) == 40);
  CHECK(file[table + 40 + 24] == std::byte{0xEE});
  CHECK(file[table + 40 + 39] == std::byte{0xEE});
  CHECK(load_be<uint64_t>(&file[table + 40]) == 77);
}

TEST_CASE("Snapshot: damaged tables are refused before anything changes", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.storage.add(
      Qcow2Disk::kName,
      Qcow2Builder().size(kMiB).data(0, pattern(0, kCluster)).l2(0, 0x8000000000050200).bytes());
  disk.open(true);
  CHECK_THAT(create(disk, "one"), FailsWith(EIO));
  disk.close();
  CHECK(load_be<uint32_t>(&disk.storage.bytes(Qcow2Disk::kName)[60]) == 0);
}

TEST_CASE("Snapshot: a cluster that no refcount block covers is refused", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.storage.add(
      Qcow2Disk::kName,
      Qcow2Builder().size(kMiB).data(0, pattern(0, kCluster)).l2(0, 0x8000000100000000).bytes());
  disk.open(true);
  CHECK_THAT(create(disk, "one"), FailsWith(EAGAIN));
}

TEST_CASE("Snapshot: deletion takes it out of the table before it lowers refcounts",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kMiB));
  REQUIRE_THAT(create(disk, "one"), IsOk());
  disk.close();
  TraceLog log;
  disk.storage.set_wrapper([&log](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<TraceFile>(std::move(inner), log);
  });
  disk.open(true);
  log.clear();
  REQUIRE_THAT(remove(disk, "one"), IsOk());
  const std::vector<std::string> steps =
      to_strings(log.entries({FileOperation::kWrite, FileOperation::kFlush}));
  const auto pointer = std::find(steps.begin(), steps.end(), "write 60+12");
  const auto refcounts = std::find(steps.begin(), steps.end(), "write 131072+65536");
  REQUIRE(pointer != steps.end());
  REQUIRE(refcounts != steps.end());
  CHECK(pointer < refcounts);
  CHECK(std::find(pointer, refcounts, "flush 0+0") != refcounts);
}

}  // namespace imgconv::test
