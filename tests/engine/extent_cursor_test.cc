#include "engine/extent_cursor.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "loop/pool_file.h"
#include "loop/try.h"
#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_file.h"
#include "tests/support/recording_messages.h"
#include "tests/support/scripted_image.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::InlineExecutor;
using test::RecordingMessages;
using test::run_inline;
using test::ScriptedExtent;
using test::ScriptedImage;

constexpr ExtentKind kData = ExtentKind::kData;
constexpr ExtentKind kZero = ExtentKind::kZero;
constexpr ExtentKind kCompressed = ExtentKind::kCompressed;
constexpr ExtentKind kHole = ExtentKind::kUnallocated;

class Cursor {
 public:
  explicit Cursor(ConvertPlan plan = sparse_plan()) : plan_(plan) {}

  static ConvertPlan sparse_plan() {
    ConvertPlan plan;
    plan.max_run = 2 * kMiB;
    plan.chunk_goal = 1 * kMiB;
    plan.chunk_capacity = 2 * kMiB;
    plan.sparse = SparseRule{8, 8};
    plan.source_depth = kAllLayers;
    return plan;
  }

  /// One more source, given by its layers from the top down.
  Cursor& add(const std::vector<std::vector<ScriptedExtent>>& layers, uint64_t cluster_size = 0,
              size_t batch = 1000) {
    std::vector<Layer> opened;
    for (const std::vector<ScriptedExtent>& script : layers) {
      auto file = std::make_unique<PoolFile>(std::make_unique<test::MemFile>(), executor_);
      auto image = std::make_unique<ScriptedImage>(script, cluster_size, std::move(file));
      image->set_batch(batch);
      images_.push_back(image.get());
      Layer layer;
      layer.name = "scripted";
      layer.format = "scripted";
      layer.image = std::move(image);
      opened.push_back(std::move(layer));
    }
    chains_.push_back(std::make_unique<ImageChain>(std::move(opened), executor_));
    return *this;
  }
  ScriptedImage& image(size_t index) { return *images_[index]; }

  /// Every run as "offset+length" in KiB, zero runs with a 'z', chunks separated by '|'.
  Result<std::string> runs() {
    source_.emplace(*ConcatSource::make(std::move(chains_)));
    plan_.virtual_size = source_->virtual_size();
    ExtentCursor cursor(*source_, plan_, messages);
    std::string text;
    uint64_t advanced = 0;
    Chunk chunk;
    for (;;) {
      ASSIGN_OR_RETURN(const bool has_chunk, run_inline(cursor.next_chunk(chunk)));
      if (!has_chunk) break;
      if (!text.empty()) text += " |";
      for (const Run& run : chunk.runs) {
        if (!text.empty()) text += ' ';
        text += std::to_string(run.guest_offset / kKiB) + '+' + std::to_string(run.length / kKiB);
        if (!run.is_data) text += 'z';
        if (run.is_data) require_covered(chunk, run);
      }
      advanced += chunk.advance;
    }
    REQUIRE(advanced == plan_.virtual_size);
    return text;
  }

  RecordingMessages messages;

 private:
  static void require_covered(const Chunk& chunk, const Run& run) {
    uint64_t at = run.guest_offset;
    for (const Extent& extent : chunk.extents_of(run)) {
      REQUIRE(extent.guest_offset == at);
      REQUIRE(extent.length > 0);
      at += extent.length;
    }
    REQUIRE(at == run.guest_end());
  }

  InlineExecutor executor_;
  ConvertPlan plan_;
  std::vector<ScriptedImage*> images_;
  std::vector<std::unique_ptr<ImageChain>> chains_;
  std::optional<ConcatSource> source_;
};

TEST_CASE("Extent cursor: data is cut into runs of 2 MiB counted from its extent", "[engine]") {
  Cursor cursor;
  cursor.add({{{64 * kKiB, kZero}, {5 * kMiB, kData}}});
  REQUIRE(*cursor.runs() == "64+2048 | 2112+2048 | 4160+1024");
}

TEST_CASE("Extent cursor: zeros that need no work make no runs", "[engine]") {
  Cursor cursor;
  cursor.add({{{1 * kMiB, kHole}, {4 * kKiB, kData}, {8 * kMiB, kZero}, {4 * kKiB, kData, true}}});
  REQUIRE(*cursor.runs() == "1024+4");
}

TEST_CASE("Extent cursor: zeros are handed out when the target must be told", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.zero_action = ZeroAction::kWriteZeroes;
  Cursor cursor(plan);
  cursor.add({{{1 * kMiB, kHole}, {4 * kKiB, kData}, {8 * kMiB, kZero}}});
  REQUIRE(*cursor.runs() == "0+1024z 1024+4 1028+8192z");
}

TEST_CASE("Extent cursor: -S 0 makes data of zeros", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.sparse.reset();
  Cursor cursor(plan);
  cursor.add({{{3 * kMiB, kZero}, {64 * kKiB, kData}}});
  REQUIRE(*cursor.runs() == "0+2048 | 2048+1024 | 3072+64");
}

TEST_CASE("Extent cursor: small runs are collected into chunks of 1 MiB", "[engine]") {
  Cursor cursor;
  cursor.add({std::vector<ScriptedExtent>(40, {64 * kKiB, kCompressed})}, 64 * kKiB);
  const std::string runs = *cursor.runs();
  REQUIRE(std::count(runs.begin(), runs.end(), '+') == 40);
  REQUIRE(std::count(runs.begin(), runs.end(), '|') == 2);
}

TEST_CASE("Extent cursor: how many extents a driver tells at once changes nothing", "[engine]") {
  const std::vector<ScriptedExtent> script = {
      {64 * kKiB, kData}, {192 * kKiB, kZero}, {4 * kMiB, kData}, {64 * kKiB, kCompressed}};
  Cursor whole;
  whole.add({script}, 64 * kKiB);
  Cursor single;
  single.add({script}, 64 * kKiB, 1);
  REQUIRE(*single.runs() == *whole.runs());
}

TEST_CASE("Extent cursor: status ends at a cluster boundary of the source where it can",
          "[engine]") {
  // 100 KiB of data in clusters of 64 KiB: the run ends at 64, and the rest is a run of its own.
  Cursor cursor;
  cursor.add({{{100 * kKiB, kData}, {28 * kKiB, kZero}}}, 64 * kKiB);
  REQUIRE(*cursor.runs() == "0+64 64+36");
}

TEST_CASE("Extent cursor: cluster boundaries count from the begin of each source", "[engine]") {
  Cursor cursor;
  cursor.add({{{4 * kKiB, kData}}}).add({{{100 * kKiB, kData}, {28 * kKiB, kZero}}}, 64 * kKiB);
  REQUIRE(*cursor.runs() == "0+4 4+64 68+36");
}

TEST_CASE("Extent cursor: an answer for 2 GiB ends where qemu-img's questions end", "[engine]") {
  Cursor cursor;
  cursor.add({{{3 * kGiB, kData}}});
  const Result<std::string> runs = cursor.runs();
  // 2^31 - 512 bytes from the begin: the last piece there is 512 bytes short.
  REQUIRE(runs->find(" 2095104+2047 ") != std::string::npos);
}

TEST_CASE("Extent cursor: -c takes whole clusters, and short ones become data", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.compression = CompressionInfo{Codec::kDeflate, 64 * kKiB};
  plan.max_run = 64 * kKiB;
  Cursor cursor(plan);
  cursor.add({{{96 * kKiB, kData}, {200 * kKiB, kZero}, {4 * kKiB, kData}, {20 * kKiB, kZero}}});
  // 0: whole; 64: data and zeros; 128: zeros up to 256; then what is left of the disk.
  REQUIRE(*cursor.runs() == "0+64 64+64 256+64");
}

TEST_CASE("Extent cursor: with a backed target the top layer alone decides", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.zero_action = ZeroAction::kWriteZeroes;
  plan.source_depth = 1;
  plan.unallocated_is_backing = true;
  Cursor cursor(plan);
  cursor.add({{{64 * kKiB, kData}, {64 * kKiB, kHole}, {64 * kKiB, kZero}, {64 * kKiB, kHole}},
              {{192 * kKiB, kData}}});
  // Behind the end of the source's own backing image an unallocated area is zero.
  REQUIRE(*cursor.runs() == "0+64 128+64z 192+64z");
}

TEST_CASE("Extent cursor: zeros behind the target's backing image are left alone", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.zero_action = ZeroAction::kWriteZeroes;
  plan.source_depth = 1;
  plan.unallocated_is_backing = true;
  plan.target_backing_size = 96 * kKiB;
  Cursor cursor(plan);
  cursor.add({{{256 * kKiB, kZero}}});
  REQUIRE(*cursor.runs() == "0+96z");
}

TEST_CASE("Extent cursor: a cluster that -c -B must complete is read from all layers", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.compression = CompressionInfo{Codec::kDeflate, 64 * kKiB};
  plan.max_run = 64 * kKiB;
  plan.source_depth = 1;
  plan.unallocated_is_backing = true;
  Cursor cursor(plan);
  cursor.add({{{32 * kKiB, kData}, {224 * kKiB, kHole}}, {{256 * kKiB, kData}}});
  REQUIRE(*cursor.runs() == "0+64");
}

TEST_CASE("Extent cursor: an unreadable status is an error with its offset", "[engine]") {
  Cursor cursor;
  cursor.add({{{64 * kKiB, kZero}, {64 * kKiB, kData}}}, 0, 1);
  cursor.image(0).set_bad_offset(0);
  REQUIRE_THAT(cursor.runs(),
               FailsSaying("error while reading block status at offset 0: Input/output error"));
}

TEST_CASE("Extent cursor: --salvage goes around a sector without status", "[engine]") {
  ConvertPlan plan = Cursor::sparse_plan();
  plan.salvage = true;
  Cursor cursor(plan);
  cursor.add({{{8 * kKiB, kData}}});
  cursor.image(0).set_bad_offset(4 * kKiB);
  const Result<std::string> runs = cursor.runs();
  REQUIRE(runs.has_value());
  REQUIRE(cursor.messages.warnings ==
          std::vector<std::string>{"error while reading block status at offset 4096: Input/output "
                                   "error, 512 bytes are lost"});
}

TEST_CASE("Extent cursor: sources without a byte do not count", "[engine]") {
  Cursor cursor;
  cursor.add({{}}).add({{{4 * kKiB, kData}}}).add({{}});
  REQUIRE(*cursor.runs() == "0+4");
  Cursor empty;
  empty.add({{}});
  REQUIRE(*empty.runs() == "");
}

}  // namespace
}  // namespace imgconv
