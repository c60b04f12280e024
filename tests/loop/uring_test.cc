#include "loop/uring.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <catch2/catch.hpp>

#include <cerrno>
#include <vector>

#include "loop/task_group.h"
#include "loop/unique_fd.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using test::is_pattern;
using test::LoopFixture;
using test::pattern;

Task<Result<void>> write_block(Uring& ring, int descriptor, uint64_t offset,
                               std::span<const std::byte> data) {
  const int result = co_await ring.write(descriptor, offset, data);
  if (result != static_cast<int>(data.size())) co_return Error::from_errno(EIO);
  co_return ok();
}

Task<int> read_block(Uring& ring, int descriptor, std::span<std::byte> buffer) {
  const int result = co_await ring.read(descriptor, 0, buffer);
  co_return result;
}

bool skip_without_ring(LoopFixture& fixture) {
  if (fixture.ring() != nullptr) return false;
  fmt::print("skipped: io_uring is not available: {}\n", fixture.ring_error());
  return true;
}

UniqueFd new_file(const test::TempDir& directory) {
  return UniqueFd(::open(directory.file("f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

}  // namespace

TEST_CASE("Uring: requests of one round go to the kernel in one submission", "[loop][uring]") {
  LoopFixture fixture;
  if (skip_without_ring(fixture)) return;
  const test::TempDir directory;
  const UniqueFd file = new_file(directory);
  const std::vector<std::byte> data = pattern(0, 4096);
  TaskGroup group;
  for (uint64_t i = 0; i < 50; ++i) {
    group.spawn(write_block(*fixture.ring(), file.get(), i * 4096, data));
  }
  CHECK(fixture.ring()->submissions() == 0);
  CHECK(fixture.run(group.join()).has_value());
  CHECK(fixture.ring()->submissions() == 1);
}

TEST_CASE("Uring: more requests than the ring has places all finish", "[loop][uring]") {
  LoopFixture fixture;
  if (skip_without_ring(fixture)) return;
  const test::TempDir directory;
  const UniqueFd file = new_file(directory);
  constexpr uint64_t kRequests = 2000;
  const std::vector<std::byte> data = pattern(0, kRequests * 512);
  TaskGroup group;
  for (uint64_t i = 0; i < kRequests; ++i) {
    group.spawn(
        write_block(*fixture.ring(), file.get(), i * 512, std::span(data).subspan(i * 512, 512)));
  }
  CHECK(fixture.run(group.join()).has_value());
  std::vector<std::byte> buffer(data.size());
  CHECK(fixture.run(read_block(*fixture.ring(), file.get(), buffer)) ==
        static_cast<int>(buffer.size()));
  CHECK(is_pattern(buffer, 0));
}

TEST_CASE("Uring: a failed request reports the errno value", "[loop][uring]") {
  LoopFixture fixture;
  if (skip_without_ring(fixture)) return;
  std::vector<std::byte> buffer(512);
  CHECK(fixture.run(read_block(*fixture.ring(), -1, buffer)) == -EBADF);
}

}  // namespace imgconv
