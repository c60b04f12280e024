// Reading qcow2 images that another program made: what map() says, what info() says, and which
// images are refused. The images are the builder's.
#include <catch2/catch.hpp>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

void load(Qcow2Disk& disk, const Qcow2Builder& builder) {
  const BuiltQcow2 built = builder.build();
  disk.storage.add(Qcow2Disk::kName, built.bytes);
  if (!built.data_file_bytes.empty()) disk.storage.add("data.raw", built.data_file_bytes);
}

std::string refusal(const Qcow2Builder& builder) {
  Qcow2Disk disk;
  load(disk, builder);
  const Result<void> result = disk.try_open(false);
  return result ? "opened" : result.error().text();
}

const InfoValue* member(const InfoValue& object, const std::string& name) {
  for (const auto& [key, value] : std::get<InfoValue::Object>(object.value)) {
    if (key == name) return &value;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("Qcow2Image: every kind of cluster reads right at every cluster size",
          "[formats][qcow2]") {
  const uint32_t bits = GENERATE(9u, 12u, 14u, 16u, 21u);
  const bool is_zstd = GENERATE(false, true);
  const uint64_t size = uint64_t{1} << bits;
  CAPTURE(bits, is_zstd);
  std::vector<std::byte> repeated(size, std::byte{0x77});
  fill_pattern(std::span(repeated).first(size / 8), 4 * size);
  Qcow2Builder builder;
  builder.cluster_bits(bits).size(8 * size + 512).compression_type(is_zstd ? 1 : 0);
  builder.data(0, pattern(0, size)).data(1, pattern(size, size));
  builder.zero_plain(2).zero_alloc(3);
  builder.compressed(4, repeated, is_zstd ? BuilderCodec::kZstd : BuilderCodec::kDeflate);
  builder.compressed(5, repeated, is_zstd ? BuilderCodec::kZstd : BuilderCodec::kDeflate);
  builder.data(8, pattern(8 * size, 512));
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);

  const std::vector<std::byte> bytes = disk.read(0, 8 * size + 512);
  const std::span<const std::byte> all(bytes);
  CHECK(is_pattern(all.first(2 * size), 0));
  CHECK(is_zero(all.subspan(2 * size, 2 * size)));
  CHECK(std::vector<std::byte>(all.begin() + static_cast<ptrdiff_t>(4 * size),
                               all.begin() + static_cast<ptrdiff_t>(5 * size)) == repeated);
  CHECK(is_zero(all.subspan(6 * size, 2 * size)));
  CHECK(is_pattern(all.subspan(8 * size), 8 * size));

  const ExtentList extents = disk.map(0, 8 * size);
  REQUIRE(extents.size() == 6);
  CHECK(extents[0].length == 2 * size);
  CHECK(extents[1].kind == ExtentKind::kZero);
  CHECK_FALSE(extents[1].has_host_offset);
  CHECK(extents[2].has_host_offset);
  CHECK(extents[3].kind == ExtentKind::kCompressed);
  CHECK(extents[3].length == size);
  CHECK(extents[4].length == size);
  CHECK(extents[5].kind == ExtentKind::kUnallocated);
}

TEST_CASE("Qcow2Image: an extent may begin inside a compressed cluster", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(kMiB).compressed(0, std::vector<std::byte>(65536, std::byte{1}));
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  const ExtentList extents = disk.map(512, 1024);
  REQUIRE(extents.size() == 1);
  CHECK(extents[0].offset_in_cluster == 512);
  CHECK(extents[0].length == 1024);
  CHECK(extents[0].cluster_size == 65536);
}

TEST_CASE("Qcow2Image: an extent ends with its L2 slice and where host clusters part",
          "[formats][qcow2]") {
  // 64 KiB clusters: a table has 8192 entries, a slice of 4 KiB 512 of them.
  Qcow2Builder builder;
  builder.cluster_bits(16).size(64 * kMiB).data(0, {}).data(1, {}).skip_host_clusters(1).data(2,
                                                                                              {});
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  const ExtentList extents = disk.map(0, 64 * kMiB);
  REQUIRE(extents.size() == 4);
  CHECK(extents[0].length == 2 * 65536);
  CHECK(extents[1].length == 65536);
  CHECK(extents[2].guest_end() == 32 * kMiB);
  CHECK(extents[3].length == 32 * kMiB);
}

TEST_CASE("Qcow2Image: subclusters map by their two bits", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.extended_l2().size(kMiB).data(0, pattern(0, 65536));
  builder.subclusters(0, (uint64_t{0x0c} << 32) | 0x03).subclusters(1, uint64_t{1} << 32);
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  const ExtentList extents = disk.map(0, 2 * 65536);
  REQUIRE(extents.size() == 5);
  CHECK(extents[0].kind == ExtentKind::kData);
  CHECK(extents[0].length == 4096);
  CHECK(extents[1].kind == ExtentKind::kZero);
  CHECK(extents[1].has_host_offset);
  CHECK(extents[2].kind == ExtentKind::kUnallocated);
  CHECK(extents[2].has_host_offset);
  CHECK(extents[3].kind == ExtentKind::kZero);
  CHECK_FALSE(extents[3].has_host_offset);
  CHECK(extents[4].kind == ExtentKind::kUnallocated);
}

TEST_CASE("Qcow2Image: clusters behind the end of the file read as zeros", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.cluster_bits(12).size(64 * kKiB).data(0, pattern(0, 4096)).data(1, pattern(4096, 4096));
  const uint64_t length = builder.bytes().size();
  builder.file_length(length - 4096);
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  CHECK(is_pattern(disk.read(0, 4096), 0));
  CHECK(is_zero(disk.read(4096, 4096)));
}

TEST_CASE("Qcow2Image: a data file's guest cluster 0 at offset 0 is data", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.data_file("data.raw").size(kMiB).data(0, pattern(0, 65536)).data(3, pattern(3, 65536));
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  CHECK(is_pattern(disk.read(0, 65536), 0));
  CHECK(disk.map(3 * 65536, 65536)[0].host_offset == 3 * 65536);
}

TEST_CASE("Qcow2Image: damaged entries fail with EIO and say what is wrong", "[formats][qcow2]") {
  struct Case {
    Qcow2Builder builder;
    std::string hint;
  };
  Qcow2Builder plain;
  plain.cluster_bits(12).size(64 * kKiB).data(0, {}).data(1, {});
  std::vector<Case> cases;
  cases.push_back(
      {Qcow2Builder(plain).l1(0, 0x8000000000000200), "L2 table offset 0x200 unaligned"});
  cases.push_back(
      {Qcow2Builder(plain).l2(0, 0x8000000000000200), "Cluster allocation offset 0x200"});
  cases.push_back({Qcow2Builder(plain).version(2).header_length(72).l2(0, 1), "pre-v3 image"});
  Qcow2Builder extended;
  extended.extended_l2().size(kMiB).data(0, {}).subclusters(0, (uint64_t{1} << 32) | 1);
  cases.push_back({extended, "Invalid cluster entry found"});
  Qcow2Builder with_data_file;
  with_data_file.data_file("data.raw").size(kMiB).data(0, {}).l2(1, 0x8000000000000000);
  cases.push_back({Qcow2Builder(with_data_file).l2(1, uint64_t{1} << 62), "external data file"});
  for (const Case& damaged : cases) {
    Qcow2Disk disk;
    load(disk, damaged.builder);
    disk.open(false);
    const uint64_t at = damaged.hint == "external data file" ? 65536 : 0;
    Result<ExtentList> extents = run_inline(disk.image->map(at, 512));
    REQUIRE_THAT(extents, FailsWith(EIO, "Input/output error"));
    REQUIRE(disk.remarks.size() == 1);
    CHECK_THAT(disk.remarks[0], Catch::Contains(damaged.hint));
  }
}

TEST_CASE("Qcow2Image: damage is reported where it is, not at what stands before it",
          "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.cluster_bits(12).size(64 * kKiB).data(0, {}).l2(2, 0x8000000000000200);
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  Result<ExtentList> extents = run_inline(disk.image->map(0, 64 * kKiB));
  REQUIRE_THAT(extents, IsOk());
  CHECK(extents->back().guest_end() == 8192);
  CHECK_THAT(run_inline(disk.image->map(8192, 512)), FailsWith(EIO));
}

TEST_CASE("Qcow2Image: a snapshot is found by id, then by name, and shows its own data",
          "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(kMiB).data(0, pattern(0, 65536)).snapshot({}).data(0, pattern(65536, 65536));
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  CHECK(is_pattern(disk.read(0, 65536), 65536));
  CHECK_THAT(run_inline(disk.image->load_snapshot("2")), FailsSaying("Can't find snapshot"));
  REQUIRE_THAT(run_inline(disk.image->load_snapshot("snap")), IsOk());
  CHECK(is_pattern(disk.read(0, 65536), 0));
}

TEST_CASE("Qcow2Image: info names what the header states", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(kMiB + 100).refcount_order(3).compatible(1).backing("base.img", "raw");
  Qcow2Disk disk;
  load(disk, builder);
  disk.open(false);
  const ImageInfo& info = disk.image->info();
  CHECK(info.virtual_size == kMiB);
  CHECK(info.backing_file == "base.img");
  CHECK(info.backing_format == "raw");
  CHECK(std::get<std::string>(member(*info.specific, "compat")->value) == "1.1");
  CHECK(std::get<uint64_t>(member(*info.specific, "refcount-bits")->value) == 8);
  CHECK(std::get<bool>(member(*info.specific, "lazy-refcounts")->value));
  CHECK(member(*info.specific, "data-file") == nullptr);
}

TEST_CASE("Qcow2Image: unusable images are refused in QEMU's words", "[formats][qcow2]") {
  Qcow2Builder plain;
  plain.size(kMiB);
  CHECK(refusal(plain) == "opened");
  CHECK(refusal(Qcow2Builder(plain).poke_be32(32, 1)) ==
        "Parameter 'encrypt.key-secret' is required for cipher");
  CHECK(refusal(Qcow2Builder(plain).incompatible(4)) == "'data-file' is required for this image");
  CHECK(refusal(Qcow2Builder(plain).incompatible(0x100)) ==
        "Unsupported qcow2 feature(s): Unknown incompatible feature: 100");
}

}  // namespace imgconv::test
