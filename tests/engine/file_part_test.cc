#include "engine/file_part.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <vector>

#include "loop/units.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::FailsWith;
using test::IsOk;

constexpr uint64_t kBegin = 8 * kKiB;
constexpr uint64_t kLength = 16 * kKiB;
constexpr uint64_t kFileLength = 64 * kKiB;

class PartFixture {
 public:
  PartFixture() { storage_.add("whole", test::pattern(0, kFileLength)); }

  std::unique_ptr<File> part(bool is_fixed) {
    const RawWindow window{kBegin, is_fixed ? kLength : kFileLength - kBegin, is_fixed};
    return part_of_file(storage_.file("whole"), window);
  }
  template <class T>
  T run(Task<T> task) {
    return test::run_inline(std::move(task));
  }
  /// Neither in front of the part nor behind it a byte has changed.
  void check_neighbours() {
    const std::vector<std::byte> whole = storage_.bytes("whole");
    REQUIRE(whole.size() == kFileLength);
    CHECK(test::is_pattern(std::span(whole).first(kBegin), 0));
    CHECK(test::is_pattern(std::span(whole).subspan(kBegin + kLength), kBegin + kLength));
  }

  test::MemStorage storage_;
};

TEST_CASE_METHOD(PartFixture, "FilePart: reads begin at its offset and end at its end") {
  const auto file = part(true);
  std::vector<std::byte> buffer(kLength);
  REQUIRE(*run(file->read(0, buffer)) == kLength);
  CHECK(test::is_pattern(buffer, kBegin));
  CHECK(*run(file->read(kLength - 100, buffer)) == 100);
  CHECK(*run(file->read(kLength, buffer)) == 0);
  CHECK(*file->blocking().read(kLength - 100, buffer) == 100);
  CHECK(test::is_pattern(std::span(buffer).first(100), kBegin + kLength - 100));
}

TEST_CASE_METHOD(PartFixture, "FilePart: of a size that was given, nothing behind it is written") {
  const auto file = part(true);
  const std::vector<std::byte> zeros(8 * kKiB);
  CHECK_THAT(run(file->write(0, zeros)), IsOk());
  CHECK_THAT(run(file->write(kLength - 4 * kKiB, zeros)), FailsWith(ENOSPC));
  CHECK_THAT(file->blocking().write(kLength, zeros), FailsWith(ENOSPC));
  CHECK_THAT(run(file->write_zeroes(kLength - 512, 1024, {})), FailsWith(ENOSPC));
  CHECK_THAT(run(file->allocate(kLength, 512)), FailsWith(ENOSPC));
  CHECK_THAT(run(file->truncate(0)), FailsSaying("Cannot resize fixed-size raw disks"));
  check_neighbours();
  const std::vector<std::byte> whole = storage_.bytes("whole");
  CHECK(test::is_zero(std::span(whole).subspan(kBegin, 8 * kKiB)));
}

TEST_CASE_METHOD(PartFixture, "FilePart: of a size that was given, it is like a device") {
  const auto file = part(true);
  CHECK(file->stat()->length == kLength);
  CHECK(file->stat()->is_block_device);
  CHECK_FALSE(file->stat()->extends_with_zeros);
  const FileExtent behind = *run(file->block_status(kLength, 512));
  CHECK(behind.host_offset == kLength);
  CHECK(behind.length == 512);
  CHECK_FALSE(behind.is_data);
  CHECK(run(file->block_status(0, kFileLength))->length == kLength);
}

TEST_CASE_METHOD(PartFixture, "FilePart: without a size it grows with its file") {
  const auto file = part(false);
  CHECK(file->stat()->length == kFileLength - kBegin);
  const std::vector<std::byte> data = test::pattern(0, 4 * kKiB);
  CHECK_THAT(run(file->write(kFileLength, data)), IsOk());
  CHECK(storage_.bytes("whole").size() == kBegin + kFileLength + 4 * kKiB);
  CHECK_THAT(run(file->truncate(kLength)), IsOk());
  CHECK(storage_.bytes("whole").size() == kBegin + kLength);
  CHECK(run(file->block_status(0, kLength))->host_offset == 0);
}

}  // namespace
}  // namespace imgconv
