#include "tests/support/mem_file.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "loop/units.h"
#include "tests/support/matchers.h"
#include "tests/support/pattern.h"

namespace imgconv::test {
namespace {

std::vector<std::byte> read_all(MemFile& file, uint64_t offset, size_t length) {
  std::vector<std::byte> buffer(length, std::byte{0x77});
  const Result<size_t> got = file.read(offset, buffer);
  REQUIRE_THAT(got, IsOk());
  buffer.resize(*got);
  return buffer;
}

TEST_CASE("MemFile: reads back what was written across page borders", "[support]") {
  MemFile file;
  REQUIRE_THAT(file.write(4000, pattern(4000, 9000)), IsOk());
  CHECK(file.stat()->length == 13000);
  CHECK(is_pattern(read_all(file, 4000, 9000), 4000));
  CHECK(is_zero(read_all(file, 0, 4000)));
}

TEST_CASE("MemFile: a read at the end of the file is short, behind it empty", "[support]") {
  MemFile file;
  REQUIRE_THAT(file.write(0, pattern(0, 100)), IsOk());
  CHECK(read_all(file, 90, 50).size() == 10);
  CHECK(read_all(file, 100, 50).empty());
  CHECK(read_all(file, 1 * kTiB, 50).empty());
}

TEST_CASE("MemFile: block status tells written pages from holes", "[support]") {
  MemFile file;
  REQUIRE_THAT(file.write(8192, pattern(8192, 1)), IsOk());
  REQUIRE_THAT(file.write(12288, pattern(12288, 4096)), IsOk());
  REQUIRE_THAT(file.truncate(1 * kTiB), IsOk());

  const FileExtent hole = *file.block_status(0, 1 * kTiB);
  CHECK_FALSE(hole.is_data);
  CHECK(hole.length == 8192);
  const FileExtent data = *file.block_status(8200, 1 * kTiB);
  CHECK(data.is_data);
  CHECK(data.length == 8192 - 8);
  CHECK(file.block_status(8200, 100)->length == 100);
  const FileExtent tail = *file.block_status(16384, 2 * kTiB);
  CHECK_FALSE(tail.is_data);
  CHECK(tail.length == 1 * kTiB - 16384);
  CHECK_FALSE(file.block_status(1 * kTiB, 512)->is_data);
  CHECK(file.stat()->allocated == 8192);
}

TEST_CASE("MemFile: unmapping zeros frees whole pages and clears the edges", "[support]") {
  MemFile file;
  REQUIRE_THAT(file.write(0, pattern(0, 16384)), IsOk());
  REQUIRE_THAT(file.write_zeroes(100, 12000, {true, false}), IsOk());
  CHECK(is_pattern(read_all(file, 0, 100), 0));
  CHECK(is_zero(read_all(file, 100, 12000)));
  CHECK(is_pattern(read_all(file, 12100, 4284), 12100));
  CHECK(file.stat()->allocated == 12288);
}

TEST_CASE("MemFile: zeroing without unmapping allocates and extends", "[support]") {
  MemFile file;
  REQUIRE_THAT(file.write_zeroes(4096, 4097, {false, false}), IsOk());
  CHECK(file.stat()->length == 8193);
  CHECK(file.stat()->allocated == 8192);
}

TEST_CASE("MemFile: what truncate cuts off does not come back", "[support]") {
  MemFile file;
  REQUIRE_THAT(file.write(0, pattern(0, 8192)), IsOk());
  REQUIRE_THAT(file.truncate(100), IsOk());
  REQUIRE_THAT(file.truncate(8192), IsOk());
  CHECK(is_pattern(read_all(file, 0, 100), 0));
  CHECK(is_zero(read_all(file, 100, 8092)));
}

TEST_CASE("MemFile: a second handle sees the first one's bytes", "[support]") {
  MemFile writer;
  REQUIRE_THAT(writer.write(10, pattern(10, 20)), IsOk());
  MemFile reader("again", writer.content(), false);
  CHECK(is_pattern(read_all(reader, 10, 20), 10));
  CHECK_THAT(reader.write(0, pattern(0, 1)), FailsWith(EBADF));
}

TEST_CASE("MemFile: demands alignment when told to", "[support]") {
  const auto content = std::make_shared<MemContent>(MemFileTraits{512, false, std::nullopt});
  MemFile file("direct", content);
  alignas(512) std::array<std::byte, 1024> buffer{};
  CHECK_THAT(file.write(0, std::span(buffer)), IsOk());
  CHECK_THAT(file.write(8, std::span(buffer).first(512)), FailsWith(EINVAL));
  CHECK_THAT(file.read(0, std::span(buffer).first(100)), FailsWith(EINVAL));
  CHECK_THAT(file.read(0, std::span(buffer).subspan(8, 512)), FailsWith(EINVAL));
}

TEST_CASE("MemFile: a block device neither grows nor shrinks", "[support]") {
  const auto content = std::make_shared<MemContent>(MemFileTraits{1, true, std::nullopt});
  content->set_device_length(4096);
  MemFile file("device", content);
  CHECK_THAT(file.write(0, pattern(0, 4096)), IsOk());
  CHECK_THAT(file.write(4095, pattern(0, 2)), FailsWith(ENOSPC));
  CHECK_THAT(file.truncate(0), FailsWith(EINVAL));
  CHECK(file.stat()->is_block_device);
}

TEST_CASE("MemFile: runs out of space at its capacity", "[support]") {
  const auto content = std::make_shared<MemContent>(MemFileTraits{1, false, 8192});
  MemFile file("small", content);
  CHECK_THAT(file.write(0, pattern(0, 8192)), IsOk());
  CHECK_THAT(file.write(8192, pattern(0, 1)), FailsWith(ENOSPC));
  CHECK_THAT(file.write(100, pattern(0, 1)), IsOk());
}

}  // namespace
}  // namespace imgconv::test
