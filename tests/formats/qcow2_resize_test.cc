// Resizing qcow2 images: what is cut off, what is added, and in which order it reaches the file.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_bitmaps.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/trace_file.h"

namespace imgconv::test {

namespace {

constexpr uint64_t kCluster = 64 * kKiB;

Result<void> resize(Qcow2Disk& disk, uint64_t size, Preallocation mode = Preallocation::kOff,
                    uint64_t backing_size = 0) {
  const ResizeRequest request{size, mode, backing_size};
  return run_inline(disk.image->resize(request));
}

void reopen(Qcow2Disk& disk, bool writable = true) {
  disk.close();
  disk.open(writable);
}

uint64_t file_length(Qcow2Disk& disk) {
  const Result<FileStat> stat = disk.image->file().stat();
  REQUIRE_THAT(stat, IsOk());
  return stat->length;
}

}  // namespace

TEST_CASE("Resize: a larger disk keeps its bytes and reads as zeros behind them",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kMiB));
  REQUIRE_THAT(resize(disk, 2 * kMiB + 512), IsOk());
  reopen(disk);
  CHECK(disk.size() == 2 * kMiB + 512);
  CHECK(is_pattern(disk.read(0, kMiB), 0));
  CHECK(disk.read(kMiB, kMiB + 512) == std::vector<std::byte>(kMiB + 512));
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: bitmaps are adapted to the new size", "[formats][qcow2]") {
  const uint64_t new_size = GENERATE(3 * kMiB, kMiB / 2);
  Qcow2Builder builder;
  builder.cluster_bits(9).size(kMiB);
  // Bits of 512 bytes: 4096 of them to a cluster, of which the last 2048 mean nothing yet.
  add_bitmaps(builder,
              {{"first", kBitmapAuto, 9, {{std::vector<std::byte>(512, std::byte{0xff}), 0}}},
               {"second", 0, 16, {{{}, 1}}}});
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  disk.open(true);
  REQUIRE_THAT(resize(disk, new_size), IsOk());
  reopen(disk, false);
  const auto bitmaps = read_bitmaps(disk.storage.bytes(Qcow2Disk::kName));
  REQUIRE(bitmaps.has_value());
  const uint64_t dirty_bytes = std::min(new_size, kMiB);
  CHECK((*bitmaps)[0].dirty.size() == dirty_bytes / 512);
  CHECK((*bitmaps)[0].flags == kBitmapAuto);
  CHECK((*bitmaps)[1].dirty.size() == dirty_bytes / 65536);
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: an inconsistent bitmap is a refusal, and so is one that would get too large",
          "[formats][qcow2]") {
  const uint32_t flags = GENERATE(kBitmapInUse, kBitmapInUse | kBitmapAuto, 0U);
  Qcow2Builder builder;
  builder.size(kMiB);
  add_bitmaps(builder, {{"good", kBitmapAuto, 16, {{{}, 0}}}, {"b", flags, 9, {{{}, 0}}}});
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  const auto before = read_bitmaps(builder.bytes());
  disk.open(true);
  if (flags == 0) {
    CHECK_THAT(resize(disk, 5 * kTiB),
               FailsSaying("Cannot resize bitmap 'b': Too much space will be occupied by the "
                           "bitmap. Use larger granularity"));
  } else {
    CHECK_THAT(resize(disk, 2 * kMiB),
               FailsSaying("Bitmap 'b' is inconsistent and cannot be used"));
    CHECK_THAT(resize(disk, kMiB), FailsSaying("Bitmap 'b' is inconsistent and cannot be used"));
  }
  reopen(disk);
  CHECK(disk.size() == kMiB);
  CHECK(read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)) == before);
}

TEST_CASE("Resize: bitmaps of a disk that could not be made larger stay as they were",
          "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.cluster_bits(9).size(kMiB);
  add_bitmaps(builder, {{"b", kBitmapAuto, 16, {{{}, 0}}}});
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, builder.bytes());
  const auto before = read_bitmaps(builder.bytes());
  disk.open(true);
  REQUIRE_THAT(resize(disk, 256 * kGiB),
               FailsSaying("Failed to grow the L1 table: File too large"));
  reopen(disk, false);
  CHECK(read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)) == before);
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: the L1 table moves when it must be longer, and its old place is free",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "cluster_size=512");
  disk.open(true);
  disk.write(kMiB - 512, pattern(kMiB - 512, 512));
  REQUIRE_THAT(resize(disk, 64 * kMiB), IsOk());
  disk.write(64 * kMiB - 512, pattern(64 * kMiB - 512, 512));
  reopen(disk);
  CHECK(is_pattern(disk.read(kMiB - 512, 512), kMiB - 512));
  CHECK(is_pattern(disk.read(64 * kMiB - 512, 512), 64 * kMiB - 512));
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: a disk beyond the limit of the L1 table is refused and stays as it was",
          "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "cluster_size=512");
  disk.open(true);
  CHECK_THAT(resize(disk, 256 * kGiB), FailsSaying("Failed to grow the L1 table: File too large"));
  reopen(disk);
  CHECK(disk.size() == kMiB);
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: what is added does not show a longer backing image", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(100 * kKiB, "backing_file=base,backing_fmt=raw");
  disk.open(true);
  REQUIRE_THAT(resize(disk, kMiB, Preallocation::kOff, kMiB), IsOk());
  CHECK(is_pattern(disk.read(0, 100 * kKiB), 0, Qcow2Disk::kBackingSeed));
  CHECK(disk.read(100 * kKiB, 924 * kKiB) == std::vector<std::byte>(924 * kKiB));
}

TEST_CASE("Resize: version 2 cannot hide a longer backing image", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "compat=0.10,backing_file=base,backing_fmt=raw");
  disk.open(true);
  CHECK_THAT(resize(disk, 2 * kMiB, Preallocation::kOff, 4 * kMiB),
             FailsSaying("Failed to zero out new clusters: Operation not supported"));
  // Refused before the L1 table has moved.
  const ResizeRequest large{4 * kGiB, Preallocation::kOff, 4 * kMiB};
  CHECK_THAT(run_inline(disk.image->resize(large)), FailsWith(ENOTSUP));
  disk.image.reset();
  disk.open(true);
  CHECK(disk.size() == kMiB);
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: sizes are whole sectors", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  CHECK_THAT(resize(disk, 1000), FailsSaying("The new size must be a multiple of 512"));
}

TEST_CASE("Resize: version 2 with snapshots is refused", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, Qcow2Builder().version(2).size(kMiB).snapshot({}).bytes());
  disk.open(true);
  CHECK_THAT(resize(disk, 2 * kMiB),
             FailsWith(ENOTSUP, "Can't resize a v2 image which has snapshots"));
}

TEST_CASE("Resize: a smaller disk gives its clusters back and the file becomes shorter",
          "[formats][qcow2]") {
  for (const char* options : {"cluster_size=512", "cluster_size=64k",
                              "cluster_size=512,compat=0.10", "cluster_size=16k,extended_l2=on"}) {
    CAPTURE(options);
    Qcow2Disk disk;
    disk.create(2 * kMiB, options);
    disk.open(true);
    disk.write(0, pattern(0, 2 * kMiB));
    disk.close();
    disk.open(true);
    REQUIRE_THAT(resize(disk, 100 * kKiB), IsOk());
    CHECK(file_length(disk) < 512 * kKiB);
    reopen(disk);
    CHECK(disk.size() == 100 * kKiB);
    CHECK(is_pattern(disk.read(0, 100 * kKiB), 0));
    CHECK(disk.check().empty());
    REQUIRE_THAT(resize(disk, 2 * kMiB), IsOk());
    const uint64_t cluster_size = *disk.image->info().cluster_size;
    const uint64_t begin = round_up(100 * kKiB, cluster_size);
    CHECK(disk.read(begin, 2 * kMiB - begin) == std::vector<std::byte>(2 * kMiB - begin));
  }
}

TEST_CASE("Resize: a smaller disk leaves what a snapshot shows alone", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.storage.add(
      Qcow2Disk::kName,
      Qcow2Builder().size(kMiB).data(9, pattern(9 * kCluster, kCluster)).snapshot({}).bytes());
  disk.open(true);
  REQUIRE_THAT(resize(disk, kCluster), IsOk());
  reopen(disk);
  CHECK(disk.check().empty());
  REQUIRE_THAT(resize(disk, kMiB), IsOk());
  REQUIRE_THAT(run_inline(disk.image->load_snapshot("snap")), IsOk());
  CHECK(is_pattern(disk.read(9 * kCluster, kCluster), 9 * kCluster));
}

TEST_CASE("Resize: preallocation maps what is added, and only that", "[formats][qcow2]") {
  for (const Preallocation mode :
       {Preallocation::kMetadata, Preallocation::kFalloc, Preallocation::kFull}) {
    CAPTURE(preallocation_name(mode));
    Qcow2Disk disk;
    disk.create(128 * kKiB, "");
    disk.open(true);
    REQUIRE_THAT(resize(disk, kMiB + 512, mode), IsOk());
    reopen(disk);
    CHECK(disk.map(0, 128 * kKiB)[0].kind == ExtentKind::kUnallocated);
    for (const Extent& extent : disk.map(128 * kKiB, 896 * kKiB + 512)) {
      CHECK(extent.kind == ExtentKind::kData);
    }
    CHECK(disk.read(0, kMiB + 512) == std::vector<std::byte>(kMiB + 512));
    CHECK(disk.check().empty());
  }
}

TEST_CASE("Resize: preallocation over space that was used before gives zeros", "[formats][qcow2]") {
  Qcow2Disk disk;
  disk.create(kMiB, "");
  disk.open(true);
  disk.write(0, pattern(0, kMiB));
  // Holes in the middle of the file, which the file system may not have punched.
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(0, kMiB / 2, true)), IsOk());
  REQUIRE_THAT(resize(disk, 2 * kMiB, Preallocation::kMetadata), IsOk());
  reopen(disk);
  CHECK(disk.read(kMiB, kMiB) == std::vector<std::byte>(kMiB));
  CHECK(disk.check().empty());
}

TEST_CASE("Resize: an external data file gets the size of the disk", "[formats][qcow2]") {
  for (const char* options : {"data_file=data", "data_file=data,data_file_raw=on"}) {
    CAPTURE(options);
    Qcow2Disk disk;
    disk.create(kMiB, options);
    disk.open(true);
    REQUIRE_THAT(resize(disk, 3 * kMiB), IsOk());
    CHECK(disk.storage.bytes("data").size() == 3 * kMiB);
    REQUIRE_THAT(resize(disk, 128 * kKiB), IsOk());
    CHECK(disk.storage.bytes("data").size() == 128 * kKiB);
    reopen(disk);
    CHECK(disk.check().empty());
  }
}

TEST_CASE("Resize: the size in the header changes last", "[formats][qcow2]") {
  for (const uint64_t size : {kCluster, 3 * kMiB}) {
    Qcow2Disk disk;
    disk.create(kMiB, "");
    disk.open(true);
    disk.write(0, pattern(0, kMiB));
    disk.close();
    TraceLog log;
    disk.storage.set_wrapper([&log](std::unique_ptr<BlockingFile> inner) {
      return std::make_unique<TraceFile>(std::move(inner), log);
    });
    disk.open(true);
    log.clear();
    REQUIRE_THAT(resize(disk, size), IsOk());
    const std::vector<TraceEntry> writes = log.entries(FileOperation::kWrite);
    REQUIRE(!writes.empty());
    CHECK(to_string(writes.back()) == "write 24+24");
  }
}

}  // namespace imgconv::test
