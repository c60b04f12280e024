#include "engine/null_file.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"

namespace imgconv {
namespace {

using test::FailsWith;
using test::IsOk;
using test::run_inline;

constexpr uint64_t kLength = 64 * kKiB;

TEST_CASE("NullFile: reads as zeros up to its end, and tells of a hole", "[engine]") {
  const std::unique_ptr<File> file = make_null_file("null-co://", kLength);
  std::vector<std::byte> buffer(kKiB, std::byte{1});
  const Result<size_t> read = run_inline(file->read(kLength - 512, buffer));
  REQUIRE_THAT(read, IsOk());
  CHECK(*read == 512);
  CHECK(buffer[511] == std::byte{0});
  CHECK(buffer[512] == std::byte{1});
  const Result<FileExtent> extent = run_inline(file->block_status(0, kLength));
  REQUIRE_THAT(extent, IsOk());
  CHECK_FALSE(extent->is_data);
  CHECK(extent->length == kLength);
}

TEST_CASE("NullFile: what is written is gone, and nothing is written behind the end", "[engine]") {
  const std::unique_ptr<File> file = make_null_file("null-co://", kLength);
  std::vector<std::byte> data(512, std::byte{1});
  CHECK_THAT(run_inline(file->write(kLength - 512, data)), IsOk());
  CHECK_THAT(run_inline(file->write(kLength - 511, data)), FailsWith(ENOSPC));
  CHECK_THAT(run_inline(file->write_zeroes(kLength, 1, {})), FailsWith(ENOSPC));
  CHECK_THAT(run_inline(file->truncate(kLength + 1)), FailsWith(ENOTSUP));
  REQUIRE_THAT(run_inline(file->read(kLength - 512, data)), IsOk());
  CHECK(data[0] == std::byte{0});
}

}  // namespace
}  // namespace imgconv
