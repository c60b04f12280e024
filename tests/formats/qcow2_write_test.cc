// Writing qcow2 images: layout, what is filled and what is not, order of metadata, existing images.
#include <catch2/catch.hpp>

#include "formats/byteorder.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/trace_file.h"

namespace imgconv::test {

namespace {

constexpr uint64_t kCluster = 64 * kKiB;

uint64_t host_cluster(Qcow2Disk& disk, uint64_t guest_cluster, uint64_t cluster_size) {
  const ExtentList extents = disk.map(guest_cluster * cluster_size, cluster_size);
  REQUIRE(extents.size() == 1);
  REQUIRE(extents[0].kind == ExtentKind::kData);
  return extents[0].host_offset / cluster_size;
}

void trace_into(Qcow2Disk& disk, TraceLog& log) {
  disk.storage.set_wrapper([&log](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<TraceFile>(std::move(inner), log);
  });
}

std::vector<std::byte> zeros(uint64_t length) { return std::vector<std::byte>(length); }

}  // namespace

TEST_CASE("Writer: a fresh image has its first L2 table at cluster 4 and data from cluster 5 on",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, 3 * kCluster));
  disk.write(5 * kCluster, pattern(0, kCluster));
  CHECK(host_cluster(disk, 0, kCluster) == 5);
  CHECK(host_cluster(disk, 2, kCluster) == 7);
  CHECK(host_cluster(disk, 5, kCluster) == 8);
  disk.close();
}

TEST_CASE("Writer: a refcount block stands behind the run that needs it, as qemu-img places it",
          "[formats][qcow2]") {
  // Observed with qemu-img 10.0.2 convert, cluster_size=512: L2 tables at 4, 69, 134, 199, the
  // second refcount block at 264, the next L2 table at 265.
  Qcow2Disk disk;
  disk.create(kMiB, "cluster_size=512");
  disk.open(true);
  disk.write(0, pattern(0, 320 * 512));
  CHECK(host_cluster(disk, 64, 512) == 70);
  CHECK(host_cluster(disk, 192, 512) == 200);
  CHECK(host_cluster(disk, 255, 512) == 263);
  CHECK(host_cluster(disk, 256, 512) == 266);
  disk.close();
}

TEST_CASE("Writer: reserved space is not visible before it is linked", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  Result<std::vector<HostRun>> runs = run_inline(disk.image->reserve(0, kCluster));
  REQUIRE_THAT(runs, IsOk());
  CHECK(disk.map(0, kCluster)[0].kind == ExtentKind::kUnallocated);
  REQUIRE_THAT(Qcow2Disk::write_runs(*runs, pattern(0, kCluster)), IsOk());
  REQUIRE_THAT(run_inline(disk.image->link(0, kCluster)), IsOk());
  CHECK(is_pattern(disk.read(0, kCluster), 0));
  disk.close();
}

TEST_CASE("Writer: what was reserved in vain is free again after close", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->reserve(0, 3 * kCluster + 512)), IsOk());
  disk.close();
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
}

TEST_CASE("Writer: sequential writing does no I/O but the data before flush", "[formats][qcow2]") {
  TraceLog log;
  Qcow2Disk disk;
  disk.create(64 * kMiB, "");
  trace_into(disk, log);
  disk.open(true);
  log.clear();
  for (uint64_t at = 0; at < 64 * kMiB; at += 2 * kMiB) disk.write(at, zeros(2 * kMiB));
  CHECK(log.count(FileOperation::kRead) <= 1);  // The one refcount block that exists.
  CHECK(log.count(FileOperation::kWrite) == 32);
  CHECK(log.count(FileOperation::kWriteZeroes) == 0);
  disk.close();
}

TEST_CASE("Writer: flush writes refcounts before L2 tables before the L1 table",
          "[formats][qcow2]") {
  TraceLog log;
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.close();
  trace_into(disk, log);
  disk.open(true);
  disk.write(0, pattern(0, kCluster));
  log.clear();
  REQUIRE_THAT(run_inline(disk.image->flush(true)), IsOk());
  const std::vector<std::string> expected = {"write 131072+65536", "flush 0+0",
                                             "write 262144+65536", "flush 0+0",
                                             "write 196608+8",     "flush 0+0"};
  CHECK(to_strings(log.entries()) == expected);
  disk.close();
}

TEST_CASE("Writer: the edges of a new cluster in untouched space are not written",
          "[formats][qcow2]") {
  TraceLog log;
  Qcow2Disk disk;
  disk.create(kMiB, "");
  trace_into(disk, log);
  disk.open(true);
  log.clear();
  disk.write(4096, pattern(4096, 512));
  CHECK(log.count(FileOperation::kWrite) == 1);
  CHECK(log.count(FileOperation::kWriteZeroes) == 0);
  CHECK(is_zero(disk.read(0, 4096)));
  CHECK(is_zero(disk.read(4608, kCluster - 4608)));
  disk.close();
}

TEST_CASE("Writer: the edges of a cluster that was used before are zeroed", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kCluster));
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, kCluster, true)), IsOk());
  REQUIRE_THAT(run_inline(disk.image->flush(false)), IsOk());
  disk.write(2 * kCluster + 1024, pattern(0, 512));
  CHECK(host_cluster(disk, 2, kCluster) == 5);
  CHECK(is_zero(disk.read(2 * kCluster, 1024)));
  CHECK(is_zero(disk.read(2 * kCluster + 1536, kCluster - 1536)));
  disk.close();
}

TEST_CASE("Writer: a partial write over a backing image copies the rest of the cluster up",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "backing_file=base.raw,backing_fmt=raw");
  disk.open(true);
  disk.write(4096, zeros(512));
  const ExtentList extents = disk.map(0, 2 * kCluster);
  REQUIRE(extents.size() == 2);
  CHECK(extents[0].length == kCluster);
  const std::vector<std::byte> bytes = disk.read(0, kCluster);
  CHECK(is_pattern(std::span(bytes).first(4096), 0, Qcow2Disk::kBackingSeed));
  CHECK(is_pattern(std::span(bytes).subspan(4608), 4608, Qcow2Disk::kBackingSeed));
  disk.close();
}

TEST_CASE("Writer: with extended L2 entries only touched subclusters become allocated",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "extended_l2=on,backing_file=base.raw,backing_fmt=raw");
  disk.open(true);
  disk.write(4096 + 512, zeros(2048));
  const ExtentList extents = disk.map(0, kCluster);
  REQUIRE(extents.size() == 3);
  CHECK(extents[0].length == 4096);
  CHECK(extents[1].kind == ExtentKind::kData);
  CHECK(extents[1].length == 4096);
  CHECK(extents[2].kind == ExtentKind::kUnallocated);
  const std::vector<std::byte> bytes = disk.read(0, kCluster);
  CHECK(is_pattern(std::span(bytes).subspan(4096, 512), 4096, Qcow2Disk::kBackingSeed));
  CHECK(is_zero(std::span(bytes).subspan(4608, 2048)));
  disk.close();
}

TEST_CASE("Writer: zeroing keeps the host cluster unless it may be unmapped", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, 2 * kCluster));
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, kCluster, false)), IsOk());
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(kCluster, kCluster, true)), IsOk());
  const ExtentList extents = disk.map(0, 2 * kCluster);
  REQUIRE(extents.size() == 2);
  CHECK(extents[0].kind == ExtentKind::kZero);
  CHECK(extents[0].has_host_offset);
  CHECK(extents[1].kind == ExtentKind::kZero);
  CHECK_FALSE(extents[1].has_host_offset);
  disk.close();
}

TEST_CASE("Writer: zeroing what a v2 image does not have changes nothing", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(64 * kTiB, "compat=0.10");
  disk.open(true);
  const std::vector<std::byte> before = disk.storage.bytes(Qcow2Disk::kName);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, 64 * kTiB, true)), IsOk());
  disk.close();
  CHECK(disk.storage.bytes(Qcow2Disk::kName) == before);
}

TEST_CASE("Writer: zeroing marks unallocated clusters as zero", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(kCluster, 2 * kCluster, true)), IsOk());
  const ExtentList extents = disk.map(0, 4 * kCluster);
  REQUIRE(extents.size() == 3);
  CHECK(extents[1].kind == ExtentKind::kZero);
  CHECK(extents[1].length == 2 * kCluster);
  disk.close();
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
  disk.close();
}

TEST_CASE("Writer: metadata that the refcounts call free is not overwritten", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kCluster));
  disk.close();
  // Cluster 4 is the L2 table. Its count, of 16 bits, stands in the block in cluster 2.
  std::vector<std::byte> bytes = disk.storage.bytes(Qcow2Disk::kName);
  REQUIRE(bytes[2 * kCluster + 9] == std::byte{1});
  bytes[2 * kCluster + 9] = std::byte{0};
  disk.storage.add(Qcow2Disk::kName, bytes);
  disk.open(true);
  const Result<void> written = disk.try_write(kCluster, pattern(0, kCluster));
  REQUIRE_FALSE(written);
  CHECK(written.error().code() == EIO);
}

TEST_CASE("Writer: an entry that points at metadata is not written through", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kCluster));
  disk.close();
  std::vector<std::byte> bytes = disk.storage.bytes(Qcow2Disk::kName);
  // The first L2 entry now names the L1 table, which is in cluster 3.
  store_be(bytes.data() + 4 * kCluster, uint64_t{1} << 63 | 3 * kCluster);
  disk.storage.add(Qcow2Disk::kName, bytes);
  disk.open(true);
  CHECK_FALSE(disk.try_write(0, pattern(0, kCluster)));
}

TEST_CASE("Writer: a flush gives the unwritten rest of a new cluster its space",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(4096, pattern(4096, 4096));
  const uint64_t host_offset = disk.map(0, 1)[0].host_offset;
  MemContent& file = disk.storage.content(Qcow2Disk::kName);
  CHECK_FALSE(file.block_status(host_offset + 8192, 4096).is_data);
  REQUIRE_THAT(run_inline(disk.image->flush(false)), IsOk());
  CHECK(file.block_status(host_offset, kCluster).is_data);
  CHECK(file.block_status(host_offset, kCluster).length == kCluster);
  disk.close();
}

TEST_CASE("Writer: the file ends with the sector of the last compressed byte", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->reserve_compressed(0, 1000)), IsOk());
  REQUIRE_THAT(run_inline(disk.image->link(0, kCluster)), IsOk());
  disk.close();
  CHECK(disk.storage.bytes(Qcow2Disk::kName).size() == 5 * kCluster + 1024);
}

TEST_CASE("Writer: zeros over a part of a cluster make it zero when the rest of it is",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(kCluster + 512, 1024, true)), IsOk());
  const ExtentList extents = disk.map(0, 3 * kCluster);
  REQUIRE(extents.size() == 3);
  CHECK(extents[1].kind == ExtentKind::kZero);
  CHECK(extents[1].length == kCluster);
  disk.close();
}

TEST_CASE("Writer: zeros over a part of a cluster of backing data leave the rest of it",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "backing_file=base.raw,backing_fmt=raw");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(512, 1024, true)), IsOk());
  const std::vector<std::byte> bytes = disk.read(0, kCluster);
  CHECK(is_pattern(std::span(bytes).first(512), 0, Qcow2Disk::kBackingSeed));
  CHECK(is_zero(std::span(bytes).subspan(512, 1024)));
  CHECK(is_pattern(std::span(bytes).subspan(1536), 1536, Qcow2Disk::kBackingSeed));
  disk.close();
}

TEST_CASE("Writer: a v2 image with a backing image gets real zeros", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "compat=0.10,backing_file=base.raw,backing_fmt=raw");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, kCluster, true)), IsOk());
  CHECK(disk.map(0, kCluster)[0].kind == ExtentKind::kData);
  CHECK(is_zero(disk.read(0, kCluster)));
  disk.close();
}

TEST_CASE("Writer: compressed clusters are packed byte by byte and share host clusters",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->reserve_compressed(0, 1000)), IsOk());
  Result<HostRun> second = run_inline(disk.image->reserve_compressed(kCluster, 65000));
  REQUIRE_THAT(second, IsOk());
  CHECK(second->host_offset == 5 * kCluster + 1000);  // Straddles into cluster 6.
  REQUIRE_THAT(run_inline(disk.image->link(0, 2 * kCluster)), IsOk());
  disk.close();
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
}

TEST_CASE(
    "Writer: a compressed cluster is not shown before it is linked, and given back if it never is",
    "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->reserve_compressed(0, 1000)), IsOk());
  CHECK(disk.map(0, kCluster)[0].kind == ExtentKind::kUnallocated);
  disk.close();
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
}

TEST_CASE("Writer: a refcount width of one bit gives every stream its own cluster",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "refcount_bits=1");
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->reserve_compressed(0, 1000)), IsOk());
  Result<HostRun> second = run_inline(disk.image->reserve_compressed(kCluster, 1000));
  REQUIRE_THAT(second, IsOk());
  CHECK(second->host_offset == 6 * kCluster);
  disk.close();
}

TEST_CASE("Writer: data that a snapshot shares is copied, not overwritten", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.cluster_bits(12).size(64 * kKiB).data(0, pattern(0, 4096)).snapshot({});
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  disk.write(512, zeros(512));
  CHECK(is_pattern(disk.read(1024, 3072), 1024));
  CHECK(is_zero(disk.read(512, 512)));
  CHECK(disk.check() == std::vector<std::string>());
  disk.close();
  disk.open(false);
  REQUIRE_THAT(run_inline(disk.image->load_snapshot("snap")), IsOk());
  CHECK(is_pattern(disk.read(0, 4096), 0));
}

TEST_CASE("Writer: the refcount table moves when it is full and the old one is freed",
          "[formats][qcow2]") {
  // 64 table entries of 64 counts each: full after 2 MiB.
  Qcow2Disk disk;
  disk.create(16 * kMiB, "cluster_size=512,refcount_bits=64");
  disk.open(true);
  for (uint64_t at = 0; at < 12 * kMiB; at += 256 * kKiB) disk.write(at, pattern(at, 256 * kKiB));
  disk.close();
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
  CHECK(is_pattern(disk.read(0, 12 * kMiB), 0));
}

TEST_CASE("Writer: an external data file holds guest data at its own offsets", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "data_file=data.raw");
  disk.open(true);
  disk.write(3 * kCluster + 512, pattern(3 * kCluster + 512, 1024));
  CHECK(disk.map(3 * kCluster, kCluster)[0].host_offset == 3 * kCluster);
  CHECK_FALSE(disk.image->compression().has_value());
  disk.close();
  const std::vector<std::byte> data = disk.storage.bytes("data.raw");
  CHECK(is_pattern(std::span(data).subspan(3 * kCluster + 512, 1024), 3 * kCluster + 512));
}

TEST_CASE("Writer: zeros that may unmap give space back, where nobody else uses it",
          "[formats][qcow2]") {
  const auto [options, name] = GENERATE(table<const char*, const char*>({
      {"cluster_size=4k", Qcow2Disk::kName},
      {"cluster_size=4k,data_file=data.raw", "data.raw"},
  }));
  CAPTURE(options);
  const bool has_snapshot = GENERATE(false, true);
  if (has_snapshot && std::string_view(name) == "data.raw") return;
  Qcow2Disk disk;
  disk.create(kMiB, options);
  disk.open(true);
  disk.write(0, pattern(0, 256 * kKiB));
  if (has_snapshot) REQUIRE_THAT(run_inline(disk.image->create_snapshot(SnapshotInfo{})), IsOk());
  disk.close();
  const uint64_t before = disk.storage.file(name)->stat()->allocated;
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, 256 * kKiB, true)), IsOk());
  disk.close();
  const uint64_t after = disk.storage.file(name)->stat()->allocated;
  CHECK((after + 200 * kKiB < before) == !has_snapshot);
  disk.open(false);
  CHECK(disk.read(0, 256 * kKiB) == zeros(256 * kKiB));
  CHECK(disk.check().empty());
}

TEST_CASE("Writer: a dirty image is repaired before it is written to", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(kMiB).data(0, pattern(0, 512)).incompatible(1);
  Qcow2Disk disk;
  SECTION("its refcounts are right") {}
  SECTION("a refcount is wrong") { builder.set_refcount(4, 0); }
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  REQUIRE_THAT(disk.try_open(true), IsOk());
  disk.close();
  CHECK(disk.storage.bytes(Qcow2Disk::kName)[79] == std::byte{0});
  disk.open(false);
  CHECK(disk.check() == std::vector<std::string>());
  CHECK(is_pattern(disk.read(0, 512), 0));
}

TEST_CASE("Writer: opening for writing clears unknown autoclear bits", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(kMiB).autoclear(0x8000);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  disk.close();
  CHECK(disk.storage.bytes(Qcow2Disk::kName)[94] == std::byte{0});
}

TEST_CASE("Writer: refcounts that call the header free do not get it overwritten",
          "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(kMiB).set_refcount(0, 0);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  CHECK_THAT(disk.try_write(0, zeros(512)), FailsWith(EIO));
}

}  // namespace imgconv::test
