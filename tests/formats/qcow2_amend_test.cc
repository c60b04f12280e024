// Amending qcow2 images: versions, refcount widths, flags, refusals.
#include <catch2/catch.hpp>
#include <cerrno>

#include "formats/byteorder.h"
#include "formats/qcow2/driver.h"
#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

Result<void> amend(Qcow2Disk& disk, const std::string& options) {
  AmendRequest request;
  request.options = *parse_options(*qcow2_driver().amend_options(), options);
  return run_inline(disk.image->amend(request));
}

void reopen(Qcow2Disk& disk) {
  disk.close();
  disk.open(true);
}

uint32_t header_u32(Qcow2Disk& disk, uint64_t offset) {
  return load_be<uint32_t>(&disk.storage.bytes(Qcow2Disk::kName)[offset]);
}

}  // namespace

TEST_CASE("Amend: every refcount width becomes every other, and the image stays clean",
          "[formats][qcow2]") {
  for (const char* cluster : {"cluster_size=512", "cluster_size=4k"}) {
    Qcow2Disk disk;
    disk.create(kMiB, cluster);
    disk.open(true);
    disk.write(0, pattern(0, kMiB / 2));
    for (const int bits : {64, 1, 2, 32, 4, 8, 16, 1, 16}) {
      CAPTURE(cluster, bits);
      REQUIRE_THAT(amend(disk, "refcount_bits=" + std::to_string(bits)), IsOk());
      CHECK(disk.check().empty());
      // The allocator knows its way around the new structures.
      disk.write(kMiB / 2, pattern(kMiB / 2, 8 * kKiB));
      reopen(disk);
      CHECK(disk.check().empty());
      CHECK(uint32_t{1} << header_u32(disk, 96) == static_cast<uint32_t>(bits));
      CHECK(is_pattern(disk.read(0, kMiB / 2 + 8 * kKiB), 0));
    }
  }
}

TEST_CASE("Amend: a width too narrow for a count is refused before anything is written",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName,
                   Qcow2Builder().size(kMiB).data(0, pattern(0, 512)).snapshot({}).bytes());
  const std::vector<std::byte> before = disk.storage.bytes(Qcow2Disk::kName);
  disk.open(true);
  CHECK_THAT(
      amend(disk, "refcount_bits=1"),
      FailsWith(EINVAL, "Cannot decrease refcount entry width to 1 bits: Cluster at offset"));
  disk.close();
  CHECK(disk.storage.bytes(Qcow2Disk::kName) == before);
}

TEST_CASE("Amend: version 2 has no zero flag, so such clusters become unallocated or zeros",
          "[formats][qcow2]") {
  for (const bool has_backing : {false, true}) {
    Qcow2Builder builder;
    builder.size(kMiB).data(0, pattern(0, 512)).zero_plain(1).zero_alloc(2);
    if (has_backing) builder.backing("base", "raw");
    builder.snapshot({}).zero_plain(3).zero_alloc(4);
    Qcow2Disk disk;
    disk.storage.add(Qcow2Disk::kName, builder.bytes());
    disk.open(true);
    REQUIRE_THAT(amend(disk, "compat=0.10"), IsOk());
    reopen(disk);
    CAPTURE(has_backing);
    CHECK(header_u32(disk, 4) == 2);
    CHECK(disk.check().empty());
    constexpr uint64_t kCluster = 64 * kKiB;
    CHECK(disk.read(kCluster, 4 * kCluster) == std::vector<std::byte>(4 * kCluster));
    for (const Extent& extent : disk.map(0, kMiB)) CHECK(extent.kind != ExtentKind::kZero);
    REQUIRE_THAT(run_inline(disk.image->load_snapshot("snap")), IsOk());
    CHECK(disk.read(kCluster, 2 * kCluster) == std::vector<std::byte>(2 * kCluster));
  }
}

TEST_CASE("Amend: a cluster that a snapshot shows as data is not overwritten by zeros",
          "[formats][qcow2]") {
  // The active entry says zero and keeps the cluster; the snapshot's says data in the same one.
  Qcow2Builder builder;
  builder.cluster_bits(16).size(kMiB).data(0, pattern(0, 64 * kKiB)).snapshot({});
  const BuiltQcow2 built = builder.build();
  const uint64_t shared = built.host_offset_of_guest_cluster.at(0);
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, 64 * kKiB, false)), IsOk());
  REQUIRE(disk.map(0, 1)[0].host_offset == shared);
  REQUIRE_THAT(amend(disk, "compat=0.10"), IsOk());
  reopen(disk);
  CHECK(disk.check().empty());
  CHECK(is_zero(disk.read(0, 64 * kKiB)));
  REQUIRE_THAT(run_inline(disk.image->load_snapshot("snap")), IsOk());
  CHECK(is_pattern(disk.read(0, 64 * kKiB), 0));
}

TEST_CASE("Amend: an upgrade completes the entries of the snapshot table", "[formats][qcow2]") {
  BuilderSnapshot bare;
  bare.extra_data_size = 0;
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, Qcow2Builder().version(2).size(kMiB).snapshot(bare).bytes());
  disk.open(true);
  REQUIRE_THAT(amend(disk, "compat=1.1,lazy_refcounts=on"), IsOk());
  reopen(disk);
  CHECK(header_u32(disk, 4) == 3);
  CHECK(disk.check().empty());
  const uint64_t table = load_be<uint64_t>(&disk.storage.bytes(Qcow2Disk::kName)[64]);
  CHECK(header_u32(disk, table + 36) == 24);
}

TEST_CASE("Amend: the data file's name changes, and raw can only be taken away",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "data_file=data,data_file_raw=on");
  disk.open(true);
  REQUIRE_THAT(amend(disk, "data_file=other,data_file_raw=off"), IsOk());
  disk.close();
  disk.storage.add("other", disk.storage.bytes("data"));
  disk.open(true);
  CHECK_THAT(amend(disk, "data_file_raw=on"),
             FailsSaying("data-file-raw cannot be set on existing images"));
}

TEST_CASE("Amend: what cannot be is refused with qemu-img's words", "[formats][qcow2]") {
  struct Refusal {
    const char* image;
    const char* change;
    const char* text;
  };
  const Refusal refusal = GENERATE(
      Refusal{"", "compat=9", "Unknown compatibility level 9"},
      Refusal{"", "refcount_bits=3",
              "Refcount width must be a power of two and may not exceed 64 bits"},
      Refusal{"compat=0.10", "refcount_bits=8",
              "Refcount widths other than 16 bits require compatibility level 1.1 or above (use "
              "compat=1.1 or greater)"},
      Refusal{"compat=0.10", "lazy_refcounts=on",
              "Lazy refcounts only supported with compatibility level 1.1 and above (use "
              "compat=1.1 or greater)"},
      Refusal{"refcount_bits=8", "compat=0.10", "compat=0.10 requires refcount_bits=16"},
      Refusal{"data_file=data", "compat=0.10", "Cannot downgrade an image with a data file"},
      Refusal{"extended_l2=on", "compat=0.10",
              "Cannot downgrade an image with incompatible features 0x10 set"},
      Refusal{"", "data_file=x",
              "data-file can only be set for images that use an external data file"},
      Refusal{"", "data_file_raw=on", "data-file-raw cannot be set on existing images"},
      Refusal{"", "backing_file=x", "Cannot amend the backing file"},
      Refusal{"", "backing_fmt=raw", "Cannot amend the backing file"},
      Refusal{"", "encrypt.new-secret=x",
              "Can't amend encryption options - encryption not present"},
      Refusal{"", "size=1000", "The new size must be a multiple of 512"});
  CAPTURE(refusal.image, refusal.change);
  Qcow2Disk disk;
  disk.create(kMiB, refusal.image);
  disk.open(true);
  CHECK_THAT(amend(disk, refusal.change), FailsSaying(refusal.text));
  reopen(disk);
  CHECK(disk.check().empty());
}

TEST_CASE("Amend: snapshots of another size prevent a downgrade", "[formats][qcow2]") {
  BuilderSnapshot other;
  other.disk_size = 2 * kMiB;
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, Qcow2Builder().size(kMiB).snapshot(other).bytes());
  disk.open(true);
  CHECK_THAT(amend(disk, "compat=0.10"),
             FailsSaying("Internal snapshots prevent downgrade of image"));
}

}  // namespace imgconv::test
