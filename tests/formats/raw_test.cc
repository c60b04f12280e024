#include "formats/raw.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "loop/units.h"
#include "tests/support/fault_file.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::FailsWith;
using test::FileOperation;
using test::IsOk;
using test::MemStorage;
using test::pattern;
using test::run_inline;

Result<std::unique_ptr<Image>> try_open(MemStorage& storage, OpenImageOptions options = {}) {
  return run_inline(raw_driver().open(storage.file("disk", options.writable), options));
}

std::unique_ptr<Image> open(MemStorage& storage, OpenImageOptions options = {}) {
  auto image = try_open(storage, options);
  REQUIRE_THAT(image, IsOk());
  return std::move(*image);
}

Result<void> create(MemStorage& storage, uint64_t size, const std::string& preallocation = "") {
  CreateImageOptions options;
  options.virtual_size = size;
  if (!preallocation.empty()) options.options.set_string("preallocation", preallocation);
  const std::unique_ptr<File> file = storage.file("disk");
  return run_inline(raw_driver().create(*file, options));
}

/// "data 0+4096", a host offset behind it where it is not the guest's.
std::string describe(const Extent& extent) {
  std::string text = extent.kind == ExtentKind::kData ? "data " : "zero ";
  text += std::to_string(extent.guest_offset) + "+" + std::to_string(extent.length);
  CHECK(extent.has_host_offset);
  if (extent.host_offset != extent.guest_offset)
    text += " at " + std::to_string(extent.host_offset);
  return text;
}

std::vector<std::string> map_all(Image& image) {
  std::vector<std::string> lines;
  for (uint64_t position = 0; position < image.info().virtual_size;) {
    const auto extents = run_inline(image.map(position, image.info().virtual_size - position));
    REQUIRE_THAT(extents, IsOk());
    REQUIRE_FALSE(extents->empty());
    for (const Extent& extent : *extents) {
      REQUIRE(extent.guest_offset == position);
      position = extent.guest_end();
      lines.push_back(describe(extent));
    }
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST_CASE("raw: the map shows the file's data and holes", "[formats][raw]") {
  MemStorage storage;
  test::MemContent& content = storage.content("disk");
  REQUIRE_THAT(content.write(8192, pattern(8192, 4096)), IsOk());
  REQUIRE_THAT(content.truncate(1 * kTiB), IsOk());
  const auto image = open(storage);
  CHECK(image->info().format == "raw");
  CHECK(image->info().virtual_size == 1 * kTiB);
  CHECK(map_all(*image) ==
        Lines{"zero 0+8192", "data 8192+4096", "zero 12288+" + std::to_string(kTiB - 12288)});
}

TEST_CASE("raw: a map of many holes comes in several answers", "[formats][raw]") {
  MemStorage storage;
  test::MemContent& content = storage.content("disk");
  for (uint64_t i = 0; i < 1000; ++i) {
    REQUIRE_THAT(content.write(i * 8192, pattern(i * 8192, 4096)), IsOk());
  }
  const auto image = open(storage);
  const auto first = run_inline(image->map(0, image->info().virtual_size));
  REQUIRE_THAT(first, IsOk());
  CHECK(first->size() < 1000);
  CHECK(map_all(*image).size() == 1999);
}

TEST_CASE("raw: the virtual size is rounded up and the rest of the sector is zero",
          "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", pattern(0, 1000));
  const auto image = open(storage);
  CHECK(image->info().virtual_size == 1024);
  CHECK(map_all(*image) == Lines{"data 0+1000", "zero 1000+24"});
}

TEST_CASE("raw: past O_DIRECT the last block of the file counts as data to its end",
          "[formats][raw]") {
  MemStorage storage;
  test::MemFileTraits traits;
  traits.request_alignment = 4096;
  test::MemContent& content = storage.add("disk", traits);
  REQUIRE_THAT(content.truncate(65536), IsOk());
  REQUIRE_THAT(content.write(65536, pattern(0, 4096)), IsOk());
  REQUIRE_THAT(content.truncate(65536 + 1000), IsOk());
  const auto image = open(storage);
  CHECK(image->info().virtual_size == 65536 + 1024);
  CHECK(map_all(*image) == Lines{"zero 0+65536", "data 65536+1024"});
}

TEST_CASE("raw: a hole at the end and the rest of the sector are one extent", "[formats][raw]") {
  MemStorage storage;
  REQUIRE_THAT(storage.content("disk").truncate(10000), IsOk());
  CHECK(map_all(*open(storage)) == Lines{"zero 0+10240"});
}

TEST_CASE("raw: a file that shrank behind our back reads as zeros", "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", pattern(0, 8192));
  const auto image = open(storage);
  REQUIRE_THAT(storage.content("disk").truncate(4096), IsOk());
  CHECK(map_all(*image) == Lines{"data 0+4096", "zero 4096+4096"});
}

TEST_CASE("raw: an image can be a window of its file", "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", pattern(0, 16384));
  OpenImageOptions options;
  options.raw_offset = 4608;
  const auto to_the_end = open(storage, options);
  CHECK(to_the_end->info().virtual_size == 16384 - 4608);
  options.raw_size = 1024;
  const auto window = open(storage, options);
  CHECK(window->info().virtual_size == 1024);
  CHECK(map_all(*window) == Lines{"data 0+1024 at 4608"});
}

TEST_CASE("raw: a window outside of the file is refused", "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", pattern(0, 4096));
  OpenImageOptions options;
  options.raw_offset = 5000;
  CHECK_THAT(
      try_open(storage, options),
      FailsSaying("Offset (5000) cannot be greater than size of the containing file (4096)"));
  options.raw_offset = 1024;
  options.raw_size = 4096;
  CHECK_THAT(try_open(storage, options),
             FailsSaying("The sum of offset (1024) and size (4096) has to be smaller or equal to "
                         "the  actual size of the containing file (4096)"));
  options.raw_size = UINT64_MAX;
  CHECK_FALSE(try_open(storage, options).has_value());
  options.raw_size = 1000;
  CHECK_THAT(try_open(storage, options), FailsSaying("Specified size is not multiple of 512"));
}

TEST_CASE("raw: space is reserved at the guest's own offset", "[formats][raw]") {
  MemStorage storage;
  REQUIRE_THAT(storage.content("disk").truncate(65536), IsOk());
  OpenImageOptions options;
  options.writable = true;
  options.raw_offset = 512;
  const auto image = open(storage, options);
  const auto runs = run_inline(image->reserve(1024, 8192));
  REQUIRE_THAT(runs, IsOk());
  REQUIRE(runs->size() == 1);
  CHECK((*runs)[0].guest_offset == 1024);
  CHECK((*runs)[0].host_offset == 1536);
  CHECK((*runs)[0].length == 8192);
  CHECK((*runs)[0].file == &image->file());
}

TEST_CASE("raw: zeroing may make a hole", "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", pattern(0, 16384));
  OpenImageOptions options;
  options.writable = true;
  const auto image = open(storage, options);
  REQUIRE_THAT(run_inline(image->write_zeroes(4096, 4096, true)), IsOk());
  CHECK(map_all(*image) == Lines{"data 0+4096", "zero 4096+4096", "data 8192+8192"});
  REQUIRE_THAT(run_inline(image->write_zeroes(8192, 4096, false)), IsOk());
  CHECK(map_all(*image) == Lines{"data 0+4096", "zero 4096+4096", "data 8192+8192"});
  const std::vector<std::byte> bytes = storage.bytes("disk");
  CHECK(test::is_zero(std::span(bytes).subspan(4096, 8192)));
}

TEST_CASE("raw: only a synchronous flush reaches the disk", "[formats][raw]") {
  MemStorage storage;
  test::FaultScript script;
  storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<test::FaultFile>(std::move(inner), script);
  });
  const auto image = open(storage);
  REQUIRE_THAT(run_inline(image->flush(false)), IsOk());
  CHECK(script.count(FileOperation::kFlush) == 0);
  REQUIRE_THAT(run_inline(image->flush(true)), IsOk());
  CHECK(script.count(FileOperation::kFlush) == 1);
}

TEST_CASE("raw: a block device does not read as zeros, a new file does", "[formats][raw]") {
  MemStorage storage;
  CHECK(open(storage)->reads_as_zeros_initially());
  storage.add("disk", {1, true, std::nullopt}).set_device_length(4096);
  CHECK_FALSE(open(storage)->reads_as_zeros_initially());
}

TEST_CASE("raw: has no snapshots, checks or compression", "[formats][raw]") {
  MemStorage storage;
  const auto image = open(storage);
  CHECK_THAT(run_inline(image->load_snapshot("1")),
             FailsSaying("Block format 'raw' used by device '' does not support temporarily "
                         "loading internal snapshots"));
  const CheckSink sink = [](const std::string&) {};
  CHECK_THAT(run_inline(image->check(sink)),
             FailsWith(ENOTSUP, "This image format does not support checks"));
  CHECK_FALSE(image->compression().has_value());
  CHECK_THAT(run_inline(image->reserve_compressed(0, 100)), FailsWith(ENOTSUP));
}

TEST_CASE("raw create: allocates the first block of a sparse file", "[formats][raw]") {
  MemStorage storage;
  REQUIRE_THAT(create(storage, 1 * kTiB), IsOk());
  CHECK(storage.content("disk").length() == 1 * kTiB);
  CHECK(map_all(*open(storage)) ==
        Lines{"data 0+4096", "zero 4096+" + std::to_string(kTiB - 4096)});
}

TEST_CASE("raw create: rounds the size up to a sector", "[formats][raw]") {
  MemStorage storage;
  REQUIRE_THAT(create(storage, 1000), IsOk());
  CHECK(storage.content("disk").length() == 1024);
}

TEST_CASE("raw create: an image of size 0 is an empty file", "[formats][raw]") {
  const std::string mode = GENERATE("", "falloc", "full");
  MemStorage storage;
  REQUIRE_THAT(create(storage, 0, mode), IsOk());
  CHECK(storage.content("disk").stat().allocated == 0);
  CHECK(open(storage)->info().virtual_size == 0);
}

TEST_CASE("raw create: preallocation takes all the space", "[formats][raw]") {
  const std::string mode = GENERATE("falloc", "full");
  MemStorage storage;
  REQUIRE_THAT(create(storage, 200000, mode), IsOk());
  CHECK(storage.content("disk").length() == 200192);
  CHECK(storage.content("disk").stat().allocated == 200704);
  CHECK(test::is_zero(storage.bytes("disk")));
}

TEST_CASE("raw create: a file system without space says so", "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", {1, false, 65536});
  CHECK_THAT(create(storage, 1 * kMiB, "falloc"), FailsWith(ENOSPC, "No space left on device"));
  CHECK_THAT(create(storage, 1 * kMiB, "full"),
             FailsWith(ENOSPC, "Could not write zeros for preallocation: "));
}

TEST_CASE("raw create: bad sizes and modes are refused before anything is done", "[formats][raw]") {
  const auto validate = [](uint64_t size, const std::string& mode) {
    CreateImageOptions options;
    options.virtual_size = size;
    options.options.set_string("preallocation", mode);
    return raw_driver().validate_create(options);
  };
  CHECK_THAT(validate(512, "off"), IsOk());
  CHECK_THAT(validate(512, "metadata"), FailsSaying("Unsupported preallocation mode: metadata"));
  CHECK_THAT(validate(512, "foo"), FailsSaying("invalid parameter value: foo"));
  CHECK_THAT(validate(UINT64_MAX, "off"), FailsSaying("Could not resize file: Invalid argument"));
}

TEST_CASE("raw create: a size beyond the file system's is named", "[formats][raw]") {
  MemStorage storage;
  test::FaultScript script;
  storage.set_wrapper([&script](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<test::FaultFile>(std::move(inner), script);
  });
  script.fail_nth(FileOperation::kTruncate, 1, EFBIG);
  CHECK_THAT(create(storage, 512),
             FailsSaying("The image size is too large for file format 'raw'"));
  script.fail_nth(FileOperation::kTruncate, 1, EACCES);
  CHECK_THAT(create(storage, 512), FailsSaying("Could not resize file: Permission denied"));
}

TEST_CASE("raw create: a block device is neither truncated nor grown", "[formats][raw]") {
  MemStorage storage;
  storage.add("disk", {1, true, std::nullopt}).set_device_length(8192);
  REQUIRE_THAT(storage.content("disk").write(0, pattern(0, 8192)), IsOk());
  CHECK_THAT(create(storage, 4096), IsOk());
  CHECK_THAT(create(storage, 8192), IsOk());
  // But no probe finds what it was.
  const std::vector<std::byte> bytes = storage.bytes("disk");
  REQUIRE(bytes.size() == 8192);
  CHECK(std::all_of(bytes.begin(), bytes.begin() + 512,
                    [](std::byte byte) { return byte == std::byte{0}; }));
  CHECK(test::is_pattern(std::span(bytes).subspan(512), 512));
  CHECK_THAT(create(storage, 8704), FailsSaying("Cannot grow device files"));
  CHECK_THAT(create(storage, 4096, "falloc"),
             FailsSaying("Unsupported preallocation mode 'falloc'"));
}

TEST_CASE("raw: measure is the size rounded up to a sector", "[formats][raw]") {
  CreateImageOptions options;
  options.virtual_size = 1000;
  const auto report = raw_driver().measure(options, {});
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required == 1024);
  CHECK(report->fully_allocated == 1024);
  CHECK_FALSE(report->bitmaps.has_value());
}

}  // namespace
}  // namespace imgconv
