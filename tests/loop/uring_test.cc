#include "loop/uring.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdio>
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

constexpr int kRight = 0;
constexpr int kWrong = 1;
constexpr int kCannotForbid = 2;

/// From now on, as under a sandbox that knows no io_uring.
bool forbid_io_uring_enter() {
  std::array<sock_filter, 4> program = {{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_io_uring_enter},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  }};
  const sock_fprog filter = {program.size(), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/// A process that is forbidden something stays so.
template <class Body>
int status_of_child(Body body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    // Ends a loop that spins.
    ::alarm(60);
    ::_exit(body());
  }
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool is_right_or_skipped(int status) {
  if (status == kCannotForbid) fmt::print("skipped: no ring, or no way to forbid it\n");
  return status == kRight || status == kCannotForbid;
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

TEST_CASE("Uring: where the system makes rings and serves none there is no ring", "[loop][uring]") {
  const int status = status_of_child([] {
    if (!forbid_io_uring_enter()) return kCannotForbid;
    AioContext loop;
    const auto ring = Uring::create(loop);
    return ring || ring.error().code() != EPERM ? kWrong : kRight;
  });
  CHECK(is_right_or_skipped(status));
}

TEST_CASE("Uring: requests that the kernel begins to refuse are for others to serve",
          "[loop][uring]") {
  const int status = status_of_child([] {
    const test::TempDir directory;
    const UniqueFd file = new_file(directory);
    LoopFixture fixture;
    if (skip_without_ring(fixture) || !forbid_io_uring_enter()) return kCannotForbid;
    std::vector<std::byte> buffer(512);
    // The first finds out, the second is told, and neither spins.
    const bool is_refused = fixture.run(read_block(*fixture.ring(), file.get(), buffer)) == -ENOSYS;
    const bool stays_refused =
        fixture.run(read_block(*fixture.ring(), file.get(), buffer)) == -ENOSYS;
    return is_refused && stays_refused ? kRight : kWrong;
  });
  CHECK(is_right_or_skipped(status));
}

}  // namespace imgconv
