// What every format must do, whatever it is: the same cases for each driver of the registry. A new
// format is covered by being registered.
#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "formats/codec.h"
#include "formats/extent_io.h"
#include "formats/registry.h"
#include "loop/units.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"

namespace imgconv {
namespace {

using test::is_pattern;
using test::is_zero;
using test::IsOk;
using test::MemStorage;
using test::pattern;
using test::run_inline;
using Bytes = std::vector<std::byte>;

/// One image of one format in memory, closed and opened as often as a test likes.
class Disk {
 public:
  Disk(const BlockDriver& driver, uint64_t virtual_size) : driver_(driver) {
    CreateImageOptions options;
    options.virtual_size = virtual_size;
    REQUIRE_THAT(driver_.validate_create(options), IsOk());
    const std::unique_ptr<File> file = storage_.file("disk");
    REQUIRE_THAT(run_inline(driver_.create(*file, options)), IsOk());
    open(true);
  }

  Image& image() { return *image_; }
  MemStorage& storage() { return storage_; }

  void open(bool writable) {
    OpenImageOptions options;
    options.writable = writable;
    auto image = run_inline(driver_.open(storage_.file("disk", writable), options));
    REQUIRE_THAT(image, IsOk());
    image_ = std::move(*image);
  }
  void close_and_reopen(bool writable) {
    REQUIRE_THAT(run_inline(image_->flush(false)), IsOk());
    REQUIRE_THAT(run_inline(image_->close()), IsOk());
    image_.reset();
    open(writable);
  }

  void write(uint64_t guest_offset, const Bytes& bytes) {
    const auto runs = run_inline(image_->reserve(guest_offset, bytes.size()));
    REQUIRE_THAT(runs, IsOk());
    uint64_t position = guest_offset;
    for (const HostRun& run : *runs) {
      REQUIRE(run.guest_offset == position);
      const auto part = std::span(bytes).subspan(position - guest_offset, run.length);
      REQUIRE_THAT(run.file->blocking().write(run.host_offset, part), IsOk());
      position += run.length;
    }
    REQUIRE(position == guest_offset + bytes.size());
    REQUIRE_THAT(run_inline(image_->link(guest_offset, bytes.size())), IsOk());
  }
  void write_pattern(uint64_t guest_offset, uint64_t length) {
    write(guest_offset, pattern(guest_offset, length));
  }

  /// The extents of the whole range; checks what map() promises.
  ExtentList map(uint64_t guest_offset, uint64_t length) {
    ExtentList all;
    const uint64_t end = guest_offset + length;
    for (uint64_t position = guest_offset; position < end;) {
      const auto extents = run_inline(image_->map(position, end - position));
      REQUIRE_THAT(extents, IsOk());
      REQUIRE_FALSE(extents->empty());
      for (const Extent& extent : *extents) {
        REQUIRE(extent.guest_offset == position);
        REQUIRE(extent.length > 0);
        position = extent.guest_end();
        REQUIRE(position <= end);
        const bool has_bytes =
            extent.kind == ExtentKind::kData || extent.kind == ExtentKind::kCompressed;
        if (has_bytes || extent.has_host_offset) REQUIRE(extent.file != nullptr);
        all.push_back(extent);
      }
    }
    return all;
  }
  Bytes read(uint64_t guest_offset, uint64_t length) {
    Bytes buffer(length, std::byte{0x66});
    REQUIRE_THAT(read_extents(map(guest_offset, length), buffer, FileEnd::kZeros), IsOk());
    return buffer;
  }
  uint64_t data_bytes() {
    uint64_t sum = 0;
    for (const Extent& extent : map(0, image_->info().virtual_size)) {
      if (extent.kind == ExtentKind::kData) sum += extent.length;
    }
    return sum;
  }

 private:
  const BlockDriver& driver_;
  MemStorage storage_;
  std::unique_ptr<Image> image_;
};

const BlockDriver& any_driver() {
  const auto drivers = all_drivers();
  const size_t index = GENERATE(range(size_t{0}, all_drivers().size()));
  INFO(drivers[index]->name());
  return *drivers[index];
}

TEST_CASE("Driver: a new image has the size asked for and reads as zeros", "[formats][contract]") {
  const uint64_t size = GENERATE(512U, 1000U, 65536U, 10U * 1024 * 1024 + 512);
  Disk disk(any_driver(), size);
  CHECK(disk.image().info().virtual_size == round_up(size, 512));
  CHECK(is_zero(disk.read(0, round_up(size, 512))));
  CHECK(disk.image().reads_as_zeros_initially());
}

TEST_CASE("Driver: an image of size 0 can be made, closed and opened", "[formats][contract]") {
  Disk disk(any_driver(), 0);
  CHECK(disk.image().info().virtual_size == 0);
  disk.close_and_reopen(false);
  CHECK(disk.image().info().virtual_size == 0);
}

TEST_CASE("Driver: says its own name", "[formats][contract]") {
  const BlockDriver& driver = any_driver();
  Disk disk(driver, 65536);
  CHECK(disk.image().info().format == driver.name());
  CHECK(find_driver(driver.name()) == &driver);
}

TEST_CASE("Driver: what was written is there before and after closing", "[formats][contract]") {
  Disk disk(any_driver(), 4 * kMiB);
  disk.write_pattern(0, 65536);
  disk.write_pattern(1 * kMiB, 1 * kMiB);
  CHECK(is_pattern(disk.read(0, 65536), 0));
  disk.close_and_reopen(false);
  CHECK(is_pattern(disk.read(0, 65536), 0));
  CHECK(is_zero(disk.read(65536, 1 * kMiB - 65536)));
  CHECK(is_pattern(disk.read(1 * kMiB, 1 * kMiB), 1 * kMiB));
  CHECK(is_zero(disk.read(2 * kMiB, 2 * kMiB)));
}

TEST_CASE("Driver: data may begin and end at any sector", "[formats][contract]") {
  Disk disk(any_driver(), 1 * kMiB);
  disk.write_pattern(512, 512);
  disk.write_pattern(65536 - 1024, 2048);
  disk.write_pattern(200 * 512, 7 * 512);
  disk.close_and_reopen(false);
  CHECK(is_zero(disk.read(0, 512)));
  CHECK(is_pattern(disk.read(512, 512), 512));
  CHECK(is_zero(disk.read(1024, 65536 - 2048)));
  CHECK(is_pattern(disk.read(65536 - 1024, 2048), 65536 - 1024));
  CHECK(is_zero(disk.read(65536 + 1024, 200 * 512 - 65536 - 1024)));
  CHECK(is_pattern(disk.read(200 * 512, 7 * 512), 200 * 512));
  CHECK(is_zero(disk.read(207 * 512, 1 * kMiB - 207 * 512)));
}

TEST_CASE("Driver: the last cluster may be incomplete", "[formats][contract]") {
  constexpr uint64_t kSize = 1 * kMiB + 1536;
  Disk disk(any_driver(), kSize);
  disk.write_pattern(1 * kMiB - 512, 2048);
  disk.close_and_reopen(false);
  CHECK(disk.image().info().virtual_size == kSize);
  CHECK(is_pattern(disk.read(1 * kMiB - 512, 2048), 1 * kMiB - 512));
}

TEST_CASE("Driver: holes stay holes", "[formats][contract]") {
  Disk disk(any_driver(), 1 * kGiB);
  disk.write_pattern(512 * kMiB, 65536);
  disk.close_and_reopen(false);
  // The data, and for raw the block that create() writes.
  CHECK(disk.data_bytes() <= 65536 + 4096);
  CHECK(is_pattern(disk.read(512 * kMiB, 65536), 512 * kMiB));
}

TEST_CASE("Driver: written data can be written over", "[formats][contract]") {
  Disk disk(any_driver(), 1 * kMiB);
  disk.write(0, pattern(0, 131072, 7));
  disk.close_and_reopen(true);
  disk.write_pattern(4096, 65536);
  disk.close_and_reopen(false);
  CHECK(is_pattern(disk.read(0, 4096), 0, 7));
  CHECK(is_pattern(disk.read(4096, 65536), 4096));
  CHECK(is_pattern(disk.read(69632, 61440), 69632, 7));
}

TEST_CASE("Driver: zeroing hides data, whole and in part", "[formats][contract]") {
  const bool may_unmap = GENERATE(false, true);
  Disk disk(any_driver(), 1 * kMiB);
  disk.write_pattern(0, 1 * kMiB);
  REQUIRE_THAT(run_inline(disk.image().write_zeroes(1024, 300000, may_unmap)), IsOk());
  disk.close_and_reopen(false);
  CHECK(is_pattern(disk.read(0, 1024), 0));
  CHECK(is_zero(disk.read(1024, 300000)));
  CHECK(is_pattern(disk.read(301024, 1 * kMiB - 301024), 301024));
}

TEST_CASE("Driver: zeroed space can be written again", "[formats][contract]") {
  const bool may_unmap = GENERATE(false, true);
  Disk disk(any_driver(), 1 * kMiB);
  disk.write(0, pattern(0, 262144, 7));
  REQUIRE_THAT(run_inline(disk.image().write_zeroes(0, 262144, may_unmap)), IsOk());
  disk.write_pattern(512, 66048);
  disk.close_and_reopen(false);
  CHECK(is_zero(disk.read(0, 512)));
  CHECK(is_pattern(disk.read(512, 66048), 512));
  CHECK(is_zero(disk.read(66560, 262144 - 66560)));
}

TEST_CASE("Driver: several reservations may be open, and linked in any order",
          "[formats][contract]") {
  Disk disk(any_driver(), 4 * kMiB);
  const auto first = run_inline(disk.image().reserve(0, 262144));
  const auto second = run_inline(disk.image().reserve(1 * kMiB, 262144));
  REQUIRE_THAT(first, IsOk());
  REQUIRE_THAT(second, IsOk());
  for (const auto* runs : {&*second, &*first}) {
    for (const HostRun& run : *runs) {
      const Bytes bytes = pattern(run.guest_offset, run.length);
      REQUIRE_THAT(run.file->blocking().write(run.host_offset, bytes), IsOk());
    }
    REQUIRE_THAT(run_inline(disk.image().link(runs->front().guest_offset, 262144)), IsOk());
  }
  disk.close_and_reopen(false);
  CHECK(is_pattern(disk.read(0, 262144), 0));
  CHECK(is_pattern(disk.read(1 * kMiB, 262144), 1 * kMiB));
}

TEST_CASE("Driver: any part of the map answers for itself", "[formats][contract]") {
  Disk disk(any_driver(), 1 * kMiB);
  disk.write_pattern(65536, 131072);
  disk.close_and_reopen(false);
  CHECK(is_pattern(disk.read(65536 + 1536, 100 * 512), 65536 + 1536));
  CHECK(is_zero(disk.read(512, 512)));
  const ExtentList one_sector = disk.map(1 * kMiB - 512, 512);
  CHECK(one_sector.size() == 1);
}

TEST_CASE("Driver: compressed clusters come back when the format has them", "[formats][contract]") {
  const BlockDriver& driver = any_driver();
  Disk disk(driver, 1 * kMiB);
  const auto compression = disk.image().compression();
  REQUIRE(compression.has_value() == driver.supports_compression());
  if (!compression) return;
  for (uint64_t i = 0; i < 5; ++i) {
    const uint64_t guest_offset = i * compression->cluster_size;
    Bytes stream(compression->cluster_size - 1);
    const auto length = thread_compressor(compression->codec)
                            .compress(pattern(guest_offset, compression->cluster_size), stream);
    stream.resize(length.value());
    const auto run = run_inline(disk.image().reserve_compressed(guest_offset, stream.size()));
    REQUIRE_THAT(run, IsOk());
    REQUIRE_THAT(run->file->blocking().write(run->host_offset, stream), IsOk());
    REQUIRE_THAT(run_inline(disk.image().link(guest_offset, compression->cluster_size)), IsOk());
  }
  disk.close_and_reopen(false);
  CHECK(is_pattern(disk.read(0, 5 * compression->cluster_size), 0));
  CHECK(is_pattern(disk.read(4096, 512), 4096));
}

TEST_CASE("Driver: its own images are recognised by their first sector", "[formats][contract]") {
  const BlockDriver& driver = any_driver();
  Disk disk(driver, 65536);
  Bytes head = disk.storage().bytes("disk");
  head.resize(512);
  CHECK(&probe_driver(head) == &driver);
}

TEST_CASE("Driver: measure needs at least the data and at most everything", "[formats][contract]") {
  const BlockDriver& driver = any_driver();
  CreateImageOptions options;
  options.virtual_size = 64 * kMiB;
  const auto report = driver.measure(options, {{0, 1 * kMiB, true}, {1 * kMiB, 63 * kMiB, false}});
  REQUIRE_THAT(report, IsOk());
  CHECK(report->required >= 1 * kMiB);
  CHECK(report->required <= report->fully_allocated);
  CHECK(report->fully_allocated >= 64 * kMiB);
}

TEST_CASE("Registry: an unknown name is no driver, unknown bytes are raw", "[formats][contract]") {
  CHECK(find_driver("nope") == nullptr);
  const Bytes noise(512, std::byte{0x5a});
  CHECK(probe_driver(noise).name() == "raw");
  const Bytes empty_file(512);
  CHECK(probe_driver(empty_file).name() == "raw");
}

}  // namespace
}  // namespace imgconv
