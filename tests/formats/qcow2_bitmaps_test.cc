// Persistent bitmaps of qcow2 images through Image::bitmaps(). The images are hand-made, and what
// was stored is read by hand, too.
#include "formats/qcow2/bitmaps.h"

#include <catch2/catch.hpp>
#include <utility>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/matchers.h"
#include "tests/support/qcow2_bitmaps.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;

/// 1 MiB in clusters of 512 bytes, so that a cluster of bits has 4096 of them.
Qcow2Builder small_clusters() {
  Qcow2Builder builder;
  builder.cluster_bits(9).size(4 * kMiB);
  return builder;
}

class BitmapDisk : public Qcow2Disk {
 public:
  explicit BitmapDisk(const Qcow2Builder& builder) { storage.add(kName, builder.bytes()); }

  BitmapStore& store() { return *image->bitmaps(); }
  Ranges ranges(size_t index) {
    Ranges all;
    for (uint64_t offset = 0;;) {
      Result<std::vector<GuestRange>> some = run_inline(store().dirty_ranges(index, offset));
      REQUIRE_THAT(some, IsOk());
      if (some->empty()) return all;
      for (const GuestRange& range : *some) all.emplace_back(range.begin, range.end);
      offset = some->back().end;
    }
  }
  void add(const std::string& name, uint64_t granularity, bool is_enabled) {
    PersistentBitmap bitmap;
    bitmap.name = name;
    bitmap.granularity = granularity;
    bitmap.is_enabled = is_enabled;
    REQUIRE_THAT(store().check_new(name, granularity), IsOk());
    REQUIRE_THAT(run_inline(store().add(bitmap)), IsOk());
  }
  void mark(size_t index, uint64_t begin, uint64_t end) {
    const std::vector<GuestRange> ranges = {{begin, end}};
    REQUIRE_THAT(run_inline(store().mark(index, ranges)), IsOk());
  }
  /// What the file says.
  std::vector<StoredBitmap> stored() {
    const auto bitmaps = read_bitmaps(storage.bytes(kName));
    return bitmaps.value_or(std::vector<StoredBitmap>());
  }
  bool is_clean() {
    open(false);
    const bool result = check().empty();
    image.reset();
    return result;
  }
};

std::string refusal(const Qcow2Builder& builder) {
  BitmapDisk disk(builder);
  const Result<void> result = disk.try_open(true);
  return result ? "opened" : result.error().text();
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

}  // namespace

TEST_CASE("Bitmaps: bits, clusters of ones and clusters of zeros become ranges",
          "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  // 512 bytes a bit: a cluster of bits for each 2 MiB.
  const BitmapSpec bits{"bits", kBitmapAuto, 9, {{bytes_of({0x81, 0x03}), 0}, {{}, 0}}};
  const BitmapSpec ones{"ones", 0, 9, {{{}, 0}, {{}, 1}}};
  const BitmapSpec coarse{"coarse", 0, 22, {{bytes_of({0xff}), 0}}};
  add_bitmaps(builder, {bits, ones, coarse});
  BitmapDisk disk(builder);
  disk.open(false);
  CHECK(disk.ranges(0) == Ranges{{0, 512}, {7 * 512, 10 * 512}});
  CHECK(disk.ranges(1) == Ranges{{2 * kMiB, 4 * kMiB}});
  // What stands behind the end of the disk is no bit.
  CHECK(disk.ranges(2) == Ranges{{0, 4 * kMiB}});
  const std::vector<PersistentBitmap> list = disk.store().list();
  CHECK(list[0].name == "bits");
  CHECK(list[0].is_enabled);
  CHECK(list[0].granularity == 512);
  CHECK_FALSE(list[1].is_enabled);
}

TEST_CASE("Bitmaps: thousands of ranges come in several answers, none twice", "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  const BitmapClusterSpec every_other{std::vector<std::byte>(512, std::byte{0x55}), 0};
  add_bitmaps(builder, {{"b0", 0, 9, {every_other, every_other}}});
  BitmapDisk disk(builder);
  disk.open(false);
  Result<std::vector<GuestRange>> first = run_inline(disk.store().dirty_ranges(0, 0));
  REQUIRE_THAT(first, IsOk());
  CHECK(first->size() == 4096);
  const Ranges all = disk.ranges(0);
  REQUIRE(all.size() == 4096);
  for (uint64_t i = 0; i < all.size(); ++i) {
    REQUIRE(all[i] == std::make_pair(i * 1024, i * 1024 + 512));
  }
}

TEST_CASE("Bitmaps: a new bitmap is stored when the image is closed", "[formats][qcow2]") {
  BitmapDisk disk(small_clusters());
  disk.open(true);
  disk.add("first", 65536, true);
  disk.add("second", 512, false);
  disk.mark(1, 1000, 1025);
  disk.mark(1, 3 * kMiB, 3 * kMiB + 1);
  CHECK(disk.stored().empty());
  disk.close();
  CHECK(disk.stored() ==
        std::vector<StoredBitmap>{{"first", kBitmapAuto, 16, {}}, {"second", 0, 9, {1, 2, 6144}}});
  CHECK(disk.is_clean());
}

TEST_CASE("Bitmaps: a guest write is recorded by enabled bitmaps only", "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  add_bitmaps(builder, {{"on", kBitmapAuto, 16, {{bytes_of({1}), 0}}},
                        {"off", 0, 16, {{{}, 0}}},
                        {"dead", kBitmapAuto | kBitmapInUse, 16, {{{}, 0}}}});
  BitmapDisk disk(builder);
  disk.open(true);
  disk.write(3 * 65536 - 512, pattern(0, 1024));
  REQUIRE_THAT(run_inline(disk.image->write_zeroes(40 * 65536, 512, true)), IsOk());
  disk.write_compressed(60 * 65536, std::vector<std::byte>(512, std::byte{1}));
  disk.close();
  CHECK(disk.stored() == std::vector<StoredBitmap>{{"on", kBitmapAuto, 16, {0, 2, 3, 40, 60}},
                                                   {"off", 0, 16, {}},
                                                   {"dead", kBitmapAuto | kBitmapInUse, 16, {}}});
  CHECK(disk.is_clean());
}

TEST_CASE("Bitmaps: who dies after a write leaves enabled bitmaps in use, others as they were",
          "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  add_bitmaps(builder, {{"on", kBitmapAuto, 16, {{{}, 0}}}, {"off", 0, 16, {{{}, 0}}}});
  BitmapDisk disk(builder);
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.image->reserve(0, 512)), IsOk());
  CHECK(disk.stored()[0].flags == (kBitmapAuto | kBitmapInUse));
  CHECK(disk.stored()[1].flags == 0);
  disk.image.reset();
  disk.open(false);
  CHECK(disk.store().list()[0].is_inconsistent);
  CHECK_FALSE(disk.store().list()[1].is_inconsistent);
}

TEST_CASE("Bitmaps: an image that is opened and closed does not change", "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  add_bitmaps(builder, {{"on", kBitmapAuto, 16, {{bytes_of({1}), 0}}}});
  BitmapDisk disk(builder);
  disk.open(true);
  disk.close();
  CHECK(disk.storage.bytes(Qcow2Disk::kName) == builder.bytes());
}

TEST_CASE("Bitmaps: removing and clearing give the space back", "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  const BitmapClusterSpec dirty{bytes_of({7}), 0};
  add_bitmaps(builder, {{"gone", 0, 9, {dirty, dirty}},
                        {"cleared", 0, 9, {dirty, dirty}},
                        {"dead", kBitmapInUse, 9, {dirty}}});
  BitmapDisk disk(builder);
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.store().remove(0)), IsOk());
  REQUIRE_THAT(run_inline(disk.store().clear(0)), IsOk());
  REQUIRE_THAT(run_inline(disk.store().remove(1)), IsOk());
  disk.close();
  CHECK(disk.stored() == std::vector<StoredBitmap>{{"cleared", 0, 9, {}}});
  CHECK(disk.is_clean());
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.store().remove(0)), IsOk());
  disk.close();
  CHECK_FALSE(read_bitmaps(disk.storage.bytes(Qcow2Disk::kName)).has_value());
  CHECK(disk.is_clean());
}

TEST_CASE("Bitmaps: stale bitmaps do not come back with a new one", "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  add_bitmaps(builder, {{"stale", 0, 16, {{{}, 0}}}});
  builder.poke_be64(88, 0);
  BitmapDisk disk(builder);
  disk.open(true);
  CHECK(disk.store().list().empty());
  disk.add("new", 65536, false);
  disk.close();
  CHECK(disk.stored() == std::vector<StoredBitmap>{{"new", 0, 16, {}}});
}

TEST_CASE("Bitmaps: version 2 cannot hold any", "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.version(2).size(kMiB);
  BitmapDisk disk(builder);
  disk.open(true);
  CHECK_FALSE(disk.store().can_hold_bitmaps());
  CHECK_THAT(disk.store().check_new("b", 65536),
             FailsSaying("Cannot store dirty bitmaps in qcow2 v2 files"));
}

TEST_CASE("Bitmaps: a bitmap that the image cannot hold is refused before anything is done",
          "[formats][qcow2]") {
  Qcow2Builder builder;
  builder.size(uint64_t{3} << 40);
  BitmapDisk disk(builder);
  disk.open(true);
  CHECK_THAT(disk.store().check_new("b", 512),
             FailsSaying("Too much space will be occupied by the bitmap. Use larger granularity"));
  CHECK_THAT(disk.store().check_new("b", 1024), IsOk());
  CHECK_THAT(disk.store().check_new(std::string(1024, 'x'), 65536),
             FailsSaying("Name length exceeds maximum (1023 characters)"));
  CHECK_THAT(disk.store().check_new("b", uint64_t{1} << 32),
             FailsSaying("Granularity exceeds maximum (2147483648 bytes)"));
}

TEST_CASE("Bitmaps: a header without room is a refusal, not a broken image", "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  builder.backing(std::string(360, 'x'), "raw");
  BitmapDisk disk(builder);
  disk.open(true);
  CHECK_THAT(disk.store().check_new("b", 65536),
             FailsWith(ENOSPC, "Failed to update bitmap extension"));
}

TEST_CASE("Bitmaps: damaged directories and tables are refused", "[formats][qcow2]") {
  const auto image_with = [](std::vector<BitmapSpec> bitmaps) {
    Qcow2Builder builder = small_clusters();
    add_bitmaps(builder, bitmaps);
    return builder;
  };
  const BitmapSpec good{"good", kBitmapAuto, 16, {{{}, 0}}};
  CHECK(refusal(image_with({good})) == "opened");
  CHECK(refusal(image_with({good, good})) == "Bitmap already exists: good");
  for (const uint64_t entry : {uint64_t{2}, uint64_t{0x100}, uint64_t{513}, uint64_t{1} << 56}) {
    BitmapSpec bad = good;
    bad.clusters[0].raw_entry = entry;
    CHECK(refusal(image_with({bad})) ==
          "Could not read bitmap_table table from image for bitmap 'good': Invalid argument");
  }
  BitmapSpec disabled = good;
  disabled.clusters[0].raw_entry = 2;
  disabled.flags = 0;
  BitmapDisk disk(image_with({disabled}));
  disk.open(true);
  CHECK_THAT(run_inline(disk.store().dirty_ranges(0, 0)), FailsWith(EINVAL, "bitmap 'good'"));
}

TEST_CASE("Bitmaps: a table that names what is not its own frees nothing that is in use",
          "[formats][qcow2]") {
  Qcow2Builder builder = small_clusters();
  builder.data(0, pattern(0, 512));
  // The header, the refcount table and a cluster that nobody uses, and one of them twice.
  add_bitmaps(builder, {{"liar", 0, 9, {{{}, 512}, {{}, 512}}},
                        {"dead", kBitmapInUse, 9, {{{}, 512 * 1000}, {{}, uint64_t{1} << 50}}}});
  BitmapDisk disk(builder);
  disk.open(true);
  REQUIRE_THAT(run_inline(disk.store().remove(0)), IsOk());
  REQUIRE_THAT(run_inline(disk.store().remove(0)), IsOk());
  disk.close();
  CHECK(disk.is_clean());
}

TEST_CASE("Bitmaps: many changed bits are written out while the image is open",
          "[formats][qcow2]") {
  // 2 TiB at 512 bytes a bit: 512 MiB of bits, of which a tenth is changed.
  Qcow2Disk sized;
  sized.create(uint64_t{2} << 40, "cluster_size=2M");
  Qcow2Builder unused = small_clusters();
  BitmapDisk disk(unused);
  disk.storage.add(Qcow2Disk::kName, sized.storage.bytes(Qcow2Disk::kName));
  disk.open(true);
  disk.add("b0", 512, false);
  const uint64_t per_cluster = (uint64_t{2} << 20) * 8 * 512;
  Ranges expected;
  for (uint64_t i = 0; i < 24; ++i) {
    disk.mark(0, i * 10 * per_cluster, i * 10 * per_cluster + 512);
    expected.emplace_back(i * 10 * per_cluster, i * 10 * per_cluster + 512);
  }
  disk.mark(0, 0, 1024);
  expected[0].second = 1024;
  CHECK(disk.ranges(0) == expected);
  disk.close();
  disk.open(false);
  CHECK(disk.ranges(0) == expected);
  CHECK(disk.check().empty());
}

}  // namespace imgconv::test
