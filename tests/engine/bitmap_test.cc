#include "engine/bitmap.h"

#include <catch2/catch.hpp>
#include <utility>

#include "tests/support/convert_fixture.h"
#include "tests/support/qcow2_bitmaps.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv {
namespace {

using namespace imgconv::test;
using Kind = BitmapAction::Kind;

class BitmapImages {
 public:
  BitmapImages() {
    storage.add("a.qcow2", image(0x0f));
    storage.add("b.qcow2", image(0xf0));
  }
  static Bytes image(unsigned dirty) {
    Qcow2Builder builder;
    builder.size(2 * kMiB);
    const BitmapClusterSpec bits{{static_cast<std::byte>(dirty)}, 0};
    add_bitmaps(builder, {{"b0", kBitmapAuto, 16, {bits}}, {"fine", 0, 15, {bits}}});
    return builder.bytes();
  }
  static BitmapRequest request(const std::string& name, std::vector<BitmapAction> actions) {
    BitmapRequest request;
    request.image.name = "a.qcow2";
    request.image.writable = true;
    request.image.with_backing = false;
    request.name = name;
    request.actions = std::move(actions);
    return request;
  }
  Result<void> change(const BitmapRequest& request) {
    return run_inline(change_bitmap(storage, request, messages));
  }
  std::vector<StoredBitmap> bitmaps(const std::string& name = "a.qcow2") {
    return read_bitmaps(storage.bytes(name)).value_or(std::vector<StoredBitmap>());
  }

  MemStorage storage;
  RecordingMessages messages;
};

}  // namespace

TEST_CASE("bitmap: actions are done in their order, and what precedes a failure stays",
          "[engine]") {
  BitmapImages images;
  CHECK_THAT(images.change(images.request(
                 "new", {{Kind::kAdd, ""}, {Kind::kDisable, ""}, {Kind::kMerge, "nope"}})),
             FailsSaying("Operation merge on bitmap new failed: Dirty bitmap 'nope' not found"));
  REQUIRE(images.bitmaps().size() == 3);
  CHECK(images.bitmaps()[2] == StoredBitmap{"new", 0, 16, {}});
}

TEST_CASE("bitmap: a merge marks every bit that the other bitmap touches", "[engine]") {
  BitmapImages images;
  // 32 KiB a bit into 64 KiB a bit, and back.
  BitmapRequest coarser = images.request("b0", {{Kind::kClear, ""}, {Kind::kMerge, "fine"}});
  coarser.source.emplace();
  coarser.source->name = "b.qcow2";
  REQUIRE_THAT(images.change(coarser), IsOk());
  CHECK(images.bitmaps()[0] == StoredBitmap{"b0", kBitmapAuto, 16, {2, 3}});
  REQUIRE_THAT(images.change(images.request("fine", {{Kind::kMerge, "b0"}})), IsOk());
  CHECK(images.bitmaps()[1] == StoredBitmap{"fine", 0, 15, {0, 1, 2, 3, 4, 5, 6, 7}});
}

TEST_CASE("bitmap: the default granularity is the cluster size between 4 KiB and 64 KiB",
          "[engine]") {
  const auto [cluster_bits, expected] =
      GENERATE(std::make_pair(9U, 12U), std::make_pair(14U, 14U), std::make_pair(21U, 16U));
  BitmapImages images;
  Qcow2Builder builder;
  builder.cluster_bits(cluster_bits).size(kMiB);
  images.storage.add("a.qcow2", builder.bytes());
  REQUIRE_THAT(images.change(images.request("b", {{Kind::kAdd, ""}})), IsOk());
  CHECK(images.bitmaps() == std::vector<StoredBitmap>{{"b", kBitmapAuto, expected, {}}});
}

TEST_CASE("Convert: --bitmaps copies names, granularities, states and bits, and no more",
          "[engine]") {
  BitmapImages images;
  ConvertOptions options = options_for("a.qcow2", "out.qcow2", "qcow2");
  options.target_options = "cluster_size=512";
  options.bitmaps = true;
  REQUIRE_THAT(run_convert(images.storage, options), IsOk());
  CHECK(images.bitmaps("out.qcow2") == images.bitmaps());
  options.bitmaps = false;
  REQUIRE_THAT(run_convert(images.storage, options), IsOk());
  CHECK(images.bitmaps("out.qcow2").empty());
}

TEST_CASE("Convert: a copy into an image with enabled bitmaps is recorded", "[engine]") {
  BitmapImages images;
  images.storage.add("source", Bytes(128 * kKiB, std::byte{1}));
  ConvertOptions options = options_for("source", "a.qcow2", "qcow2");
  options.skip_create = true;
  REQUIRE_THAT(run_convert(images.storage, options), IsOk());
  CHECK(images.bitmaps()[0] == StoredBitmap{"b0", kBitmapAuto, 16, {0, 1, 2, 3}});
  options.sources = {"b.qcow2"};
  REQUIRE_THAT(run_convert(images.storage, options), IsOk());
  CHECK(images.bitmaps()[0].dirty.size() == 32);
  CHECK(images.bitmaps()[1] == StoredBitmap{"fine", 0, 15, {0, 1, 2, 3}});
}

}  // namespace imgconv
