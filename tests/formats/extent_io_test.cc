#include "formats/extent_io.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "formats/codec.h"
#include "loop/units.h"
#include "tests/support/fault_file.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/trace_file.h"

namespace imgconv {
namespace {

using test::FailsWith;
using test::FileOperation;
using test::is_pattern;
using test::is_zero;
using test::IsOk;
using test::pattern;
using Bytes = std::vector<std::byte>;

/// A host file, a list of extents that grows at its end, and what was done to the file.
class Layout {
 public:
  Layout() {
    storage_.set_wrapper([this](std::unique_ptr<BlockingFile> inner) {
      auto faulty = std::make_unique<test::FaultFile>(std::move(inner), script);
      return std::make_unique<test::TraceFile>(std::move(faulty), log);
    });
    file_ = storage_.file("host");
  }

  File& file() { return *file_; }
  void put(uint64_t host_offset, const Bytes& bytes) {
    REQUIRE_THAT(storage_.content("host").write(host_offset, bytes), IsOk());
  }

  Extent& add(ExtentKind kind, uint64_t length) {
    Extent extent;
    extent.guest_offset = guest_end_;
    extent.length = length;
    extent.kind = kind;
    guest_end_ += length;
    return extents.emplace_back(extent);
  }
  void add_data(uint64_t host_offset, uint64_t length) {
    Extent& extent = add(ExtentKind::kData, length);
    extent.has_host_offset = true;
    extent.host_offset = host_offset;
    extent.file = file_.get();
  }
  /// Compresses the pattern of a whole cluster to `host_offset`; returns the stream's length.
  uint64_t put_stream(uint64_t host_offset, uint64_t cluster_size, uint64_t pattern_offset,
                      Codec codec = Codec::kDeflate) {
    Bytes stream(cluster_size * 2 + 100);
    const auto length =
        thread_compressor(codec).compress(pattern(pattern_offset, cluster_size), stream);
    stream.resize(length.value());
    put(host_offset, stream);
    return stream.size();
  }
  Extent& add_compressed(uint64_t host_offset, uint64_t host_length, uint64_t cluster_size,
                         Codec codec = Codec::kDeflate) {
    Extent& extent = add(ExtentKind::kCompressed, cluster_size);
    extent.host_offset = host_offset;
    extent.host_length = host_length;
    extent.codec = codec;
    extent.cluster_size = cluster_size;
    extent.file = file_.get();
    return extent;
  }

  Result<void> read(FileEnd file_end = FileEnd::kZeros) {
    buffer.assign(guest_end_, std::byte{0x99});
    return read_extents(extents, buffer, file_end);
  }
  std::span<const std::byte> part(uint64_t offset, uint64_t length) const {
    return std::span(buffer).subspan(offset, length);
  }
  std::vector<std::string> reads() const { return to_strings(log.entries(FileOperation::kRead)); }

  ExtentList extents;
  Bytes buffer;
  test::TraceLog log;
  test::FaultScript script;

 private:
  test::MemStorage storage_;
  std::unique_ptr<File> file_;
  uint64_t guest_end_ = 0;
};

using Reads = std::vector<std::string>;

TEST_CASE("read_extents: zeros and unallocated ranges cost no read", "[formats][extent_io]") {
  Layout layout;
  layout.add(ExtentKind::kZero, 4096);
  layout.add(ExtentKind::kUnallocated, 512);
  CHECK_THAT(layout.read(), IsOk());
  CHECK(is_zero(layout.buffer));
  CHECK(layout.reads().empty());
}

TEST_CASE("read_extents: neighbours in the host file are read together", "[formats][extent_io]") {
  Layout layout;
  layout.put(0, pattern(0, 16384));
  layout.add_data(4096, 512);
  layout.add_data(4608, 1024);
  layout.add_data(0, 512);
  layout.add(ExtentKind::kZero, 512);
  layout.add_data(512, 512);
  CHECK_THAT(layout.read(), IsOk());
  CHECK(layout.reads() == Reads{"read 4096+1536", "read 0+512", "read 512+512"});
  CHECK(is_pattern(layout.part(0, 1536), 4096));
  CHECK(is_pattern(layout.part(1536, 512), 0));
  CHECK(is_zero(layout.part(2048, 512)));
  CHECK(is_pattern(layout.part(2560, 512), 512));
}

TEST_CASE("read_extents: behind the end of the file are zeros", "[formats][extent_io]") {
  Layout layout;
  layout.put(0, pattern(0, 1000));
  layout.add_data(512, 1024);
  layout.add_data(8192, 512);
  CHECK_THAT(layout.read(), IsOk());
  CHECK(is_pattern(layout.part(0, 488), 512));
  CHECK(is_zero(layout.part(488, 1048)));
}

TEST_CASE(
    "read_extents: a file cut off in the middle of its data is an error where zeros are no answer",
    "[formats][extent_io]") {
  Layout layout;
  layout.put(0, pattern(0, 6000));
  layout.add_data(0, 8192);
  layout.extents[0].cluster_size = 4096;
  SECTION("the last cluster may be there in part") {
    CHECK_THAT(layout.read(FileEnd::kError), IsOk());
    CHECK(is_pattern(layout.part(0, 6000), 0));
    CHECK(is_zero(layout.part(6000, 2192)));
  }
  SECTION("a whole cluster may not be missing") {
    layout.extents[0].cluster_size = 1024;
    const Result<void> read = layout.read(FileEnd::kError);
    REQUIRE_FALSE(read);
    CHECK(read.error().code() == EIO);
    CHECK(read.error().hint() ==
          "The image is truncated: its file ends at byte 6000, data is expected at byte 6000.");
  }
  SECTION("without clusters a sector may be there in part, and no more") {
    layout.extents[0].cluster_size = 0;
    CHECK_FALSE(layout.read(FileEnd::kError));
  }
}

TEST_CASE("read_extents: packed compressed clusters cost one read", "[formats][extent_io]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  constexpr uint64_t kCluster = 65536;
  Layout layout;
  uint64_t position = 1000;
  for (uint64_t i = 0; i < 8; ++i) {
    const uint64_t length = layout.put_stream(position, kCluster, i * kCluster, codec);
    // As qcow2 states it: up to the end of a sector, into the next stream.
    const uint64_t bound = round_up(position % 512 + length, 512) - position % 512;
    layout.add_compressed(position, bound, kCluster, codec);
    position += length;
  }
  CHECK_THAT(layout.read(), IsOk());
  CHECK(layout.reads() == Reads{"read 1000+" + std::to_string(round_up(position, 512) - 1000)});
  CHECK(is_pattern(layout.buffer, 0));
}

TEST_CASE("read_extents: streams in any order are read together", "[formats][extent_io]") {
  Layout layout;
  const uint64_t first = layout.put_stream(20000, 4096, 0);
  const uint64_t second = layout.put_stream(8192, 4096, 4096);
  layout.add_compressed(20000, first, 4096);
  layout.add_compressed(8192, second, 4096);
  CHECK_THAT(layout.read(), IsOk());
  CHECK(layout.reads().size() == 1);
  CHECK(is_pattern(layout.buffer, 0));
}

TEST_CASE("read_extents: streams far apart are read one by one", "[formats][extent_io]") {
  Layout layout;
  const uint64_t first = layout.put_stream(512, 4096, 0);
  const uint64_t second = layout.put_stream(512 * kKiB, 4096, 4096);
  layout.add_compressed(512, first, 4096);
  layout.add_compressed(512 * kKiB, second, 4096);
  CHECK_THAT(layout.read(), IsOk());
  CHECK(layout.reads().size() == 2);
  CHECK(is_pattern(layout.buffer, 0));
}

TEST_CASE("read_extents: a compressed read is at most 1 MiB, however long the run",
          "[formats][extent_io]") {
  constexpr uint64_t kCluster = 65536;
  Layout layout;
  for (uint64_t i = 0; i < 40; ++i) {
    layout.put_stream(i * kCluster, kCluster, i * kCluster);
    layout.add_compressed(i * kCluster, kCluster, kCluster);
  }
  CHECK_THAT(layout.read(), IsOk());
  CHECK(is_pattern(layout.buffer, 0));
  REQUIRE(layout.reads().size() == 3);
  CHECK(layout.log.entries(FileOperation::kRead)[0].length == kMiB);
}

TEST_CASE("read_extents: parts of one compressed cluster are cut from it", "[formats][extent_io]") {
  Layout layout;
  const uint64_t length = layout.put_stream(512, 65536, 0);
  const auto add_part = [&](uint64_t offset, uint64_t part_length) {
    Extent& extent = layout.add_compressed(512, length, 65536);
    extent.length = part_length;
    extent.offset_in_cluster = offset;
  };
  add_part(1024, 512);
  add_part(4096, 8192);
  layout.buffer.resize(512 + 8192);
  REQUIRE_THAT(read_extents(layout.extents, layout.buffer, FileEnd::kZeros), IsOk());
  CHECK(is_pattern(layout.part(0, 512), 1024));
  CHECK(is_pattern(layout.part(512, 8192), 4096));
  CHECK(layout.reads().size() == 1);
}

TEST_CASE("read_extents: parts of different clusters are not mixed up", "[formats][extent_io]") {
  Layout layout;
  const uint64_t first = layout.put_stream(512, 4096, 0);
  const uint64_t second = layout.put_stream(8192, 4096, 4096);
  layout.add_compressed(512, first, 4096).length = 512;
  layout.add_compressed(8192, second, 4096).length = 512;
  layout.buffer.resize(1024);
  REQUIRE_THAT(read_extents(layout.extents, layout.buffer, FileEnd::kZeros), IsOk());
  CHECK(is_pattern(layout.part(0, 512), 0));
  CHECK(is_pattern(layout.part(512, 512), 4096));
}

TEST_CASE("read_extents: a stream cut by the end of the file is filled up with zeros",
          "[formats][extent_io]") {
  Layout layout;
  const uint64_t length = layout.put_stream(100, 4096, 0);
  layout.add_compressed(100, length + 400, 4096);
  CHECK_THAT(layout.read(), IsOk());
  CHECK(is_pattern(layout.buffer, 0));
}

TEST_CASE("read_extents: old scratch bytes never stand in for missing input",
          "[formats][extent_io]") {
  Layout good;
  const uint64_t length = good.put_stream(0, 4096, 0);
  good.add_compressed(0, length, 4096);
  REQUIRE_THAT(good.read(), IsOk());

  Layout truncated;
  truncated.add_compressed(0, length, 4096);
  CHECK_THAT(truncated.read(), FailsWith(EIO));
}

TEST_CASE("read_extents: a damaged stream and a failing read are errors", "[formats][extent_io]") {
  Layout layout;
  layout.put(0, Bytes(4096, std::byte{0xff}));
  layout.add_compressed(0, 512, 4096);
  CHECK_THAT(layout.read(), FailsWith(EIO));

  Layout broken;
  broken.put(0, pattern(0, 512));
  broken.add_data(0, 512);
  broken.script.fail_nth(FileOperation::kRead, 1, EACCES);
  CHECK_THAT(broken.read(), FailsWith(EACCES));
}

}  // namespace
}  // namespace imgconv
