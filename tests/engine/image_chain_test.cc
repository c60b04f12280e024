#include "engine/image_chain.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/scripted_image.h"

namespace imgconv {
namespace {

using test::run_inline;
using test::ScriptedExtent;
using test::ScriptedImage;

constexpr auto kHole = ExtentKind::kUnallocated;
constexpr auto kData = ExtentKind::kData;
constexpr auto kZero = ExtentKind::kZero;

/// What a test says about one extent of an answer.
struct Seen {
  uint64_t guest_offset;
  uint64_t length;
  ExtentKind kind;
  unsigned depth;
  bool operator==(const Seen&) const = default;
};

class ChainFixture {
 public:
  /// Layers from the top down. Layer N's file holds the pattern with seed N + 1.
  ImageChain& build(const std::vector<std::vector<ScriptedExtent>>& scripts) {
    std::vector<Layer> layers;
    for (const std::vector<ScriptedExtent>& script : scripts) {
      const std::string name = "layer" + std::to_string(layers.size());
      uint64_t size = 0;
      for (const ScriptedExtent& extent : script) size += extent.length;
      storage_.add(name, test::pattern(0, size, static_cast<uint16_t>(layers.size() + 1)));
      Layer layer;
      layer.name = name;
      auto image = std::make_unique<ScriptedImage>(script, 0, storage_.file(name));
      images_.push_back(image.get());
      layer.image = std::move(image);
      layers.push_back(std::move(layer));
    }
    chain_ = std::make_unique<ImageChain>(std::move(layers), executor_);
    return *chain_;
  }

  std::vector<Seen> map_all(unsigned max_depth = kAllLayers) {
    std::vector<Seen> seen;
    uint64_t position = 0;
    while (position < chain_->virtual_size()) {
      const auto mapped =
          run_inline(chain_->map(position, chain_->virtual_size() - position, max_depth));
      REQUIRE_THAT(mapped, test::IsOk());
      for (const ChainExtent& found : *mapped) {
        const Extent& extent = found.extent;
        CHECK(found.is_present == (extent.kind != kHole));
        seen.push_back({extent.guest_offset, extent.length, extent.kind, found.depth});
      }
      position = mapped->back().extent.guest_end();
    }
    return seen;
  }

  std::vector<ScriptedImage*> images_;

 private:
  test::MemStorage storage_;
  test::InlineExecutor executor_;
  std::unique_ptr<ImageChain> chain_;
};

TEST_CASE_METHOD(ChainFixture, "ImageChain: a layer below answers only what the upper left open") {
  build({{{1024, kData}, {2048, kHole}, {1024, kZero}}, {{1536, kData}, {2560, kZero}}});
  CHECK(map_all() == std::vector<Seen>{{0, 1024, kData, 0},
                                       {1024, 512, kData, 1},
                                       {1536, 1536, kZero, 1},
                                       {3072, 1024, kZero, 0}});
}

TEST_CASE_METHOD(ChainFixture,
                 "ImageChain: extents of the upper layer are not merged with their neighbours") {
  build({{{512, kHole}, {512, kHole}}, {{1024, kData}}});
  CHECK(map_all() == std::vector<Seen>{{0, 512, kData, 1}, {512, 512, kData, 1}});
}

TEST_CASE_METHOD(ChainFixture,
                 "ImageChain: beyond a short backing image the layer above it is the deepest") {
  build({{{4096, kHole}}, {{2048, kHole}}, {{512, kData}}});
  CHECK(map_all() ==
        std::vector<Seen>{{0, 512, kData, 2}, {512, 1536, kHole, 1}, {2048, 2048, kHole, 0}});
}

TEST_CASE_METHOD(ChainFixture,
                 "ImageChain: what nobody has carries the depth of the lowest layer") {
  build({{{512, kHole}}, {{512, kHole}}, {{512, kHole}}});
  CHECK(map_all() == std::vector<Seen>{{0, 512, kHole, 2}});
}

TEST_CASE_METHOD(ChainFixture, "ImageChain: max_depth keeps the lower layers out of the answer") {
  build({{{512, kHole}, {512, kData}}, {{1024, kData}}});
  CHECK(map_all(1) == std::vector<Seen>{{0, 512, kHole, 0}, {512, 512, kData, 0}});
}

TEST_CASE_METHOD(ChainFixture, "ImageChain: a longer backing image does not show behind the top") {
  build({{{512, kHole}}, {{4096, kData}}});
  CHECK(map_all() == std::vector<Seen>{{0, 512, kData, 1}});
}

TEST_CASE_METHOD(ChainFixture,
                 "ImageChain: answers of one extent at a time give the same map as batches") {
  std::vector<std::vector<ScriptedExtent>> scripts(3);
  for (unsigned i = 0; i < 12'000; ++i) {
    scripts[0].push_back({512, i % 3 == 0 ? kData : kHole});
    scripts[1].push_back({512, i % 5 == 0 ? kZero : kHole});
    if (i < 9'000) scripts[2].push_back({512, i % 2 == 0 ? kData : kHole});
  }
  build(scripts);
  for (ScriptedImage* image : images_) image->set_batch(1);
  uint64_t expected_offset = 0;
  for (const Seen& seen : map_all()) {
    const uint64_t i = seen.guest_offset / 512;
    REQUIRE(seen.guest_offset == expected_offset);
    REQUIRE(seen.length == 512);
    const ExtentKind kind = i % 3 == 0                ? kData
                            : i % 5 == 0              ? kZero
                            : i < 9'000 && i % 2 == 0 ? kData
                                                      : kHole;
    REQUIRE(seen.kind == kind);
    expected_offset += 512;
  }
  CHECK(expected_offset == 12'000 * 512);
}

TEST_CASE_METHOD(ChainFixture,
                 "ImageChain: an error of a lower layer comes when its offset is reached") {
  ImageChain& chain = build({{{512, kData}, {512, kHole}}, {{1024, kData}}});
  images_[1]->set_bad_offset(600);
  const auto mapped = run_inline(chain.map(0, 1024));
  REQUIRE_THAT(mapped, test::IsOk());
  CHECK(mapped->back().extent.guest_end() == 512);
  CHECK_THAT(run_inline(chain.map(512, 512)), test::FailsWith(EIO));
}

TEST_CASE_METHOD(ChainFixture, "ImageChain: read takes each byte from the layer that has it") {
  ImageChain& chain = build({{{512, kData}, {3584, kHole}}, {{1024, kData}, {512, kZero}}});
  std::vector<std::byte> buffer(5000, std::byte{0x77});
  REQUIRE_THAT(run_inline(chain.read(100, buffer)), test::IsOk());
  const std::span<const std::byte> bytes(buffer);
  CHECK(std::ranges::equal(bytes.first(412), test::pattern(100, 412, 1)));
  CHECK(std::ranges::equal(bytes.subspan(412, 512), test::pattern(512, 512, 2)));
  CHECK(test::is_zero(bytes.subspan(924)));
}

TEST_CASE_METHOD(ChainFixture, "ImageChain: layers below the top are read without it") {
  ImageChain& chain = build({{{1024, kData}}, {{512, kData}}});
  std::vector<std::byte> buffer(1024, std::byte{0x77});
  REQUIRE_THAT(run_inline(chain.read_layers(1, 0, buffer)), test::IsOk());
  const std::span<const std::byte> bytes(buffer);
  CHECK(std::ranges::equal(bytes.first(512), test::pattern(0, 512, 2)));
  CHECK(test::is_zero(bytes.subspan(512)));
}

TEST_CASE_METHOD(ChainFixture, "ImageChain: without backing image everything below top is zeros") {
  ImageChain& chain = build({{{512, kData}}});
  std::vector<std::byte> buffer(512, std::byte{0x77});
  REQUIRE_THAT(run_inline(chain.read_layers(1, 0, buffer)), test::IsOk());
  CHECK(test::is_zero(buffer));
}

TEST_CASE("slice_extent: a part of a compressed cluster begins inside the decoded cluster") {
  Extent extent;
  extent.length = 65536;
  extent.kind = ExtentKind::kCompressed;
  extent.host_offset = 1000;
  const Extent part = slice_extent(extent, 4096, 8192);
  CHECK(part.offset_in_cluster == 4096);
  CHECK(part.host_offset == 1000);
  CHECK(part.length == 4096);
}

}  // namespace
}  // namespace imgconv
