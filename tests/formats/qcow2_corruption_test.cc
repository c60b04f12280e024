// Damage that is found while an image is written to. The words are compared with the genuine tool's
// by tests/cli/write_damage.py.
#include <catch2/catch.hpp>

#include <cerrno>

#include "formats/byteorder.h"
#include "formats/qcow2/protected_clusters.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

using Lines = std::vector<std::string>;

constexpr uint64_t kCluster = 4096;
constexpr uint64_t kCopied = uint64_t{1} << 63;

/// Two clusters of data; 4 KiB clusters.
Qcow2Builder two_clusters(uint32_t version = 3) {
  Qcow2Builder builder;
  builder.version(version).cluster_bits(12).size(64 * kKiB);
  builder.data(0, pattern(0, kCluster)).data(1, pattern(kCluster, kCluster));
  return builder;
}

std::vector<std::byte> zeros(size_t length) { return std::vector<std::byte>(length); }

SnapshotInfo named(const std::string& name) {
  SnapshotInfo snapshot;
  snapshot.name = name;
  return snapshot;
}

uint64_t incompatible_features(Qcow2Disk& disk) {
  return load_be<uint64_t>(disk.storage.bytes(Qcow2Disk::kName).data() + 72);
}

}  // namespace

TEST_CASE("Qcow2Image: damage found by a write marks the image corrupt and ends its use",
          "[formats][qcow2]") {
  const BuiltQcow2 image = two_clusters().build();
  Qcow2Builder builder = two_clusters();
  builder.l2(0, kCopied | image.l1_offset);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  CHECK_THAT(disk.try_write(0, zeros(512)), FailsWith(EIO));
  CHECK(disk.remarks ==
        Lines{"qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps "
              "with active L1 table); further corruption events will be suppressed"});
  CHECK(incompatible_features(disk) == 2);

  CHECK_THAT(disk.try_write(kCluster, zeros(512)), FailsWith(ENOMEDIUM));
  CHECK_THAT(run_inline(disk.image->write_zeroes(0, kCluster, true)), FailsWith(ENOMEDIUM));
  CHECK_THAT(run_inline(disk.image->map(kCluster, kCluster)), FailsWith(ENOMEDIUM));
  CHECK(disk.remarks.size() == 1);
  disk.close();
  disk.image.reset();
  CHECK_FALSE(disk.try_open(true).has_value());
}

TEST_CASE("Qcow2Image: nothing of a damaged image but the mark is written", "[formats][qcow2]") {
  Qcow2Builder builder = two_clusters();
  builder.l2(1, kCopied | 512);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  std::vector<std::byte> before = disk.storage.bytes(Qcow2Disk::kName);
  disk.open(true);
  // Needs a new cluster, whose refcount and L2 entry are in memory when the damage is found.
  disk.write(5 * kCluster, pattern(0, kCluster));
  CHECK_THAT(disk.try_write(kCluster, zeros(512)), FailsWith(EIO));
  disk.close();
  std::vector<std::byte> after = disk.storage.bytes(Qcow2Disk::kName);
  after.resize(before.size());
  before[79] = std::byte{2};
  CHECK((after == before));
}

TEST_CASE("Qcow2Image: a version 2 image has no place for the mark", "[formats][qcow2]") {
  Qcow2Builder builder = two_clusters(2);
  builder.l1(0, kCopied | 512 * 3);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  const std::vector<std::byte> before = disk.storage.bytes(Qcow2Disk::kName);
  CHECK_THAT(disk.try_write(0, zeros(512)), FailsWith(EIO));
  CHECK_THAT(disk.try_write(0, zeros(512)), FailsWith(ENOMEDIUM));
  CHECK(disk.remarks.size() == 1);
  disk.close();
  CHECK((disk.storage.bytes(Qcow2Disk::kName) == before));
}

TEST_CASE("Qcow2Image: damage found by a reader is said and not marked", "[formats][qcow2]") {
  Qcow2Builder builder = two_clusters();
  builder.l2(0, kCopied | 512);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(false);
  CHECK_THAT(run_inline(disk.image->map(0, kCluster)), FailsWith(EIO));
  REQUIRE(disk.remarks.size() == 1);
  CHECK(disk.remarks[0].starts_with("qcow2: Image is corrupt: Cluster allocation offset 0x200 "));
  CHECK(incompatible_features(disk) == 0);
  CHECK(run_inline(disk.image->map(2 * kCluster, kCluster)).has_value());
}

TEST_CASE("Writer: a snapshot's L1 table is not written to, whatever its count says",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "cluster_size=4k");
  disk.open(true);
  disk.write(0, pattern(0, kCluster));
  REQUIRE_THAT(run_inline(disk.image->create_snapshot(SnapshotInfo{})), IsOk());
  disk.close();
  std::vector<std::byte> bytes = disk.storage.bytes(Qcow2Disk::kName);
  const auto field = [&bytes](uint64_t at) { return load_be<uint64_t>(bytes.data() + at); };
  const uint64_t snapshot_l1 = field(field(64));
  const uint64_t block = field(field(48));
  store_be(bytes.data() + block + 2 * (snapshot_l1 / kCluster), uint16_t{0});
  disk.storage.add(Qcow2Disk::kName, bytes);
  disk.open(true);
  CHECK_THAT(disk.try_write(8 * kCluster, pattern(0, kCluster)), FailsWith(EIO));
  CHECK(disk.remarks ==
        Lines{"qcow2: Marking image as corrupt: Preventing invalid write on metadata (overlaps "
              "with inactive L1 table); further corruption events will be suppressed"});
}

TEST_CASE("Writer: metadata that an entry took for data keeps its count", "[formats][qcow2]") {
  const BuiltQcow2 image = two_clusters().build();
  Qcow2Builder builder = two_clusters();
  // The cluster that the entry named before is nobody's now.
  builder.l2(0, image.l1_offset);
  builder.set_refcount(image.host_offset_of_guest_cluster.at(0) / kCluster, 0);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, kCluster, true)), IsOk());
  CHECK(disk.remarks == Lines{"qcow2_free_clusters failed: Input/output error"});
  disk.write(8 * kCluster, pattern(0, kCluster));
  disk.close();
  disk.open(false);
  CHECK(disk.check() == Lines{});
}

TEST_CASE("Resize: metadata that a cut off entry took for data keeps its place",
          "[formats][qcow2]") {
  const BuiltQcow2 image = two_clusters().build();
  const uint64_t metadata = GENERATE_COPY(image.l1_offset, image.refcount_table_offset);
  Qcow2Builder builder = two_clusters();
  builder.l2(8, kCopied | metadata);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->resize({4 * kCluster, Preallocation::kOff, 0})), IsOk());
  CHECK(disk.remarks == Lines{"qcow2_free_clusters failed: Input/output error"});
  disk.close();
  disk.open(false);
  CHECK(is_pattern(disk.read(0, 2 * kCluster), 0));
  CHECK(disk.check() == Lines{});
}

TEST_CASE("Snapshots: metadata that an entry of a deleted snapshot took for data keeps its place",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(64 * kKiB, "cluster_size=4k");
  disk.open(true);
  disk.write(0, pattern(0, kCluster));
  REQUIRE_THAT(run_inline(disk.image->create_snapshot(named("s"))), IsOk());
  // The active disk gets a table and a cluster of its own.
  disk.write(0, pattern(0, kCluster));
  disk.close();
  std::vector<std::byte> file = disk.storage.bytes(Qcow2Disk::kName);
  const uint64_t l1 = load_be<uint64_t>(file.data() + 40);
  const uint64_t snapshot_l1 = load_be<uint64_t>(file.data() + load_be<uint64_t>(file.data() + 64));
  const uint64_t snapshot_l2 = load_be<uint64_t>(file.data() + snapshot_l1) & 0xfffffffffffe00;
  store_be(file.data() + snapshot_l2, l1);
  disk.storage.add(Qcow2Disk::kName, file);
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->delete_snapshot("s")), IsOk());
  CHECK(disk.remarks == Lines{"qcow2_free_clusters failed: Input/output error"});
  disk.close();
  disk.open(false);
  CHECK(is_pattern(disk.read(0, kCluster), 0));
}

TEST_CASE("Writer: a cluster whose count is too low to be freed leaks", "[formats][qcow2]") {
  const BuiltQcow2 image = two_clusters().build();
  const uint64_t host_cluster = image.host_offset_of_guest_cluster.at(0) / kCluster;
  Qcow2Builder builder = two_clusters();
  builder.set_refcount(host_cluster, 0);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, kCluster, true)), IsOk());
  REQUIRE_THAT(run_inline(disk.image->flush(false)), IsOk());
  CHECK(disk.remarks == Lines{"qcow2_free_clusters failed: Invalid argument"});
  disk.close();
  CHECK(incompatible_features(disk) == 0);
}

TEST_CASE("ProtectedClusters: of several kinds at one place the one QEMU asks for first is named",
          "[formats][qcow2]") {
  using qcow2::MetadataKind;
  qcow2::ProtectedClusters clusters;
  clusters.add({10, 4}, MetadataKind::kSnapshotTable);
  clusters.add({12, 1}, MetadataKind::kActiveL1);
  clusters.add_tables({11, 20}, {12, 30});
  CHECK_FALSE(clusters.find({9, 1}).has_value());
  CHECK(clusters.find({10, 1}) == MetadataKind::kSnapshotTable);
  CHECK(clusters.find({0, 100}) == MetadataKind::kActiveL1);
  CHECK(clusters.find({11, 1}) == MetadataKind::kActiveL2);
  CHECK(clusters.find({11, 1}, MetadataKind::kActiveL2) == MetadataKind::kSnapshotTable);
  CHECK_FALSE(clusters.find({20, 1}, MetadataKind::kActiveL2).has_value());
  CHECK(clusters.find({30, 1}) == MetadataKind::kRefcountBlock);
  clusters.remove_table(30);
  CHECK_FALSE(clusters.find({30, 1}).has_value());
  clusters.remove_at(10);
  CHECK_FALSE(clusters.find({13, 1}).has_value());
}

}  // namespace imgconv::test
