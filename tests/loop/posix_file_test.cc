#include "loop/posix_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "loop/io_buffer.h"
#include "loop/pool_file.h"
#include "loop/units.h"
#include "tests/support/manual_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using test::FailsWith;
using test::is_pattern;
using test::is_zero;
using test::IsOk;
using test::pattern;
using test::TempDir;

/// Null where the file system refuses the flags.
std::unique_ptr<PosixFile> open_new(const TempDir& directory, const PosixFileOptions& options,
                                    int access = O_RDWR) {
  const std::string path = directory.file("f");
  const int flags = access | O_CREAT | O_CLOEXEC | (options.is_direct ? O_DIRECT : 0);
  UniqueFd descriptor(::open(path.c_str(), flags, 0600));
  if (!descriptor.is_open()) {
    fmt::print("skipped: O_DIRECT: {}\n", errno_text(errno));
    return nullptr;
  }
  auto file = PosixFile::adopt(std::move(descriptor), path, options);
  REQUIRE_THAT(file, IsOk());
  return std::move(*file);
}

PosixFileOptions direct_options() {
  PosixFileOptions options;
  options.is_direct = true;
  return options;
}

/// Whether the file at `offset` has its place on the disk, or will be given one when it is written
/// back. Nothing where the file system does not tell.
std::optional<bool> has_place_on_disk(const PosixFile& file, uint64_t offset) {
  alignas(fiemap) std::array<std::byte, sizeof(fiemap) + sizeof(fiemap_extent)> memory{};
  auto* const map = new (memory.data()) fiemap{};
  map->fm_start = offset;
  map->fm_length = 1;
  map->fm_extent_count = 1;
  if (::ioctl(file.descriptor(), FS_IOC_FIEMAP, map) < 0) return std::nullopt;
  if (map->fm_mapped_extents != 1) return std::nullopt;
  fiemap_extent extent;
  std::memcpy(&extent, memory.data() + sizeof(fiemap), sizeof extent);
  return (extent.fe_flags & FIEMAP_EXTENT_DELALLOC) == 0;
}

bool is_on_ext4(const PosixFile& file) {
  struct statfs file_system {};
  return ::fstatfs(file.descriptor(), &file_system) == 0 && file_system.f_type == EXT4_SUPER_MAGIC;
}

}  // namespace

TEST_CASE("PosixFile: long writes into a new file of ext4 have their place before they are written",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  // ext2 and ext3 have the same magic number, and cannot.
  const bool can_allocate =
      ::fallocate(file->descriptor(), FALLOC_FL_KEEP_SIZE, 8 * kMiB, 4 * kKiB) == 0;
  if (!is_on_ext4(*file) || !can_allocate) {
    fmt::print("skipped: not on ext4\n");
    return;
  }
  REQUIRE_THAT(file->write(0, pattern(0, 64 * kKiB)), IsOk());
  REQUIRE_THAT(file->write(kMiB, pattern(0, 4 * kKiB)), IsOk());
  CHECK(has_place_on_disk(*file, 0) == true);
  // The room that was found ahead is no part of the file.
  REQUIRE_THAT(file->stat(), IsOk());
  CHECK(file->stat()->length == kMiB + 4 * kKiB);
}

TEST_CASE("PosixFile: write_zeroes without fallback either works at once or says ENOTSUP",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  REQUIRE_THAT(file->write(0, pattern(0, 128 * kKiB)), IsOk());
  ZeroFlags flags;
  flags.no_fallback = true;
  const Result<void> result = file->write_zeroes(0, 64 * kKiB, flags);
  std::vector<std::byte> buffer(64 * kKiB);
  REQUIRE_THAT(file->read(0, buffer), IsOk());
  if (result) {
    CHECK(is_zero(buffer));
  } else {
    CHECK(result.error().code() == ENOTSUP);
    CHECK(is_pattern(buffer, 0));
  }
}

TEST_CASE("PosixFile: what was just written is read without waiting, all or nothing",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  REQUIRE_THAT(file->write(0, pattern(0, 64 * kKiB)), IsOk());
  std::vector<std::byte> buffer(32 * kKiB);
  // A file system may not be able to tell.
  if (file->read_if_cached(16 * kKiB, buffer)) CHECK(is_pattern(buffer, 16 * kKiB));
  CHECK_FALSE(file->read_if_cached(48 * kKiB, buffer));
  CHECK_FALSE(file->read_if_cached(UINT64_MAX - 4, buffer));
}

TEST_CASE("PosixFile: short reads that the page cache can answer start no job",
          "[loop][posix_file]") {
  const TempDir directory;
  std::unique_ptr<PosixFile> posix_file = open_new(directory, {});
  REQUIRE_THAT(posix_file->write(0, pattern(0, 1 * kMiB)), IsOk());
  std::vector<std::byte> buffer(64 * kKiB);
  const bool can_tell = posix_file->read_if_cached(0, buffer);
  test::ManualExecutor executor;
  PoolFile file(std::move(posix_file), executor);
  Task<Result<size_t>> cached = file.read(0, buffer);
  cached.start();
  CHECK(executor.held() == (can_tell ? 0U : 1U));
  executor.finish_all(1);
  CHECK(is_pattern(buffer, 0));
  // Too much to copy on the loop thread, and more than the file has.
  buffer.resize(512 * kKiB);
  for (const uint64_t host_offset : {uint64_t{0}, 768 * kKiB}) {
    Task<Result<size_t>> read = file.read(host_offset, buffer);
    read.start();
    CHECK(executor.held() == 1);
    executor.finish_all(1);
    CHECK(*read.take() == std::min<uint64_t>(512 * kKiB, kMiB - host_offset));
  }
}

TEST_CASE("PosixFile: writes of one call do not mix with those of another thread",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  const auto write_twice = [&file](uint64_t pattern_offset) {
    const std::vector<std::byte> bytes = pattern(pattern_offset, 64 * kKiB);
    const std::array<FileWrite, 2> writes = {FileWrite{0, bytes}, FileWrite{kMiB, bytes}};
    return file->write_all(writes);
  };
  for (uint64_t round = 0; round < 50; ++round) {
    Result<void> other = ok();
    std::thread thread([&] { other = write_twice(2 * round * kMiB); });
    const Result<void> mine = write_twice((2 * round + 1) * kMiB);
    thread.join();
    REQUIRE_THAT(mine, IsOk());
    REQUIRE_THAT(other, IsOk());
    std::vector<std::byte> first(64 * kKiB);
    std::vector<std::byte> second(64 * kKiB);
    REQUIRE_THAT(file->read(0, first), IsOk());
    REQUIRE_THAT(file->read(kMiB, second), IsOk());
    REQUIRE(first == second);
  }
}

TEST_CASE("PosixFile: write_zeroes that must not unmap keeps the space", "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  REQUIRE_THAT(file->write_zeroes(0, 1 * kMiB, {}), IsOk());
  const Result<FileStat> stat = file->stat();
  REQUIRE_THAT(stat, IsOk());
  CHECK(stat->length == 1 * kMiB);
  CHECK(stat->allocated >= 1 * kMiB);
}

TEST_CASE("PosixFile: zeroing behind the end does not cut what another thread appends",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  ZeroFlags flags;
  flags.may_unmap = true;
  constexpr uint64_t kStep = 8192;
  constexpr uint64_t kSteps = 400;
  const auto write_every_other = [&](uint64_t first, bool is_data) {
    for (uint64_t i = first; i < kSteps; i += 2) {
      const Result<void> result = is_data ? file->write(i * kStep, pattern(i * kStep, kStep))
                                          : file->write_zeroes(i * kStep, kStep, flags);
      if (!result) std::abort();
    }
  };
  std::thread zeroing([&] { write_every_other(0, false); });
  write_every_other(1, true);
  zeroing.join();
  std::vector<std::byte> buffer(kStep);
  for (uint64_t i = 0; i < kSteps; ++i) {
    const Result<size_t> count = file->read(i * kStep, buffer);
    REQUIRE_THAT(count, IsOk());
    REQUIRE(*count == kStep);
    CHECK((i % 2 == 1 ? is_pattern(buffer, i * kStep) : is_zero(buffer)));
  }
}

TEST_CASE("PosixFile: discard punches a hole and keeps the length", "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  REQUIRE_THAT(file->write(0, pattern(0, 1 * kMiB)), IsOk());
  REQUIRE_THAT(file->flush(), IsOk());
  const Result<void> result = file->discard(0, 512 * kKiB);
  if (!result && result.error().code() == ENOTSUP) return;
  REQUIRE_THAT(result, IsOk());
  const Result<FileStat> stat = file->stat();
  REQUIRE_THAT(stat, IsOk());
  CHECK(stat->length == 1 * kMiB);
  CHECK(stat->allocated < 600 * kKiB);
}

TEST_CASE("PosixFile: a failed truncate says what it could not do", "[loop][posix_file]") {
  const TempDir directory;
  test::write_file(directory.file("f"), pattern(0, 100));
  const auto file = open_new(directory, {}, O_RDONLY);
  CHECK_THAT(file->truncate(50), FailsWith(EINVAL, "Could not resize file: Invalid argument"));
  CHECK_THAT(file->write(0, pattern(0, 10)), FailsWith(EBADF, "Bad file descriptor"));
}

TEST_CASE("PosixFile: with O_DIRECT it reports an alignment and still takes odd requests",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, direct_options());
  if (file == nullptr) return;
  const Result<FileStat> stat = file->stat();
  REQUIRE_THAT(stat, IsOk());
  CHECK(stat->request_alignment >= 512);
  CHECK(is_power_of_two(stat->request_alignment));

  // Longer than one bounce buffer, odd at both ends, memory odd too.
  const std::vector<std::byte> data = pattern(999, 3 * kMiB + 7);
  REQUIRE_THAT(file->write(999, data), IsOk());
  std::vector<std::byte> buffer(data.size() + 1);
  const std::span<std::byte> odd_memory = std::span(buffer).subspan(1);
  const Result<size_t> count = file->read(999, odd_memory);
  REQUIRE_THAT(count, IsOk());
  CHECK(*count == data.size());
  CHECK(is_pattern(odd_memory, 999));
}

TEST_CASE("PosixFile: with O_DIRECT an odd write does not leave padding behind the end",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, direct_options());
  if (file == nullptr) return;
  REQUIRE_THAT(file->write(0, pattern(0, 10'001)), IsOk());
  CHECK(file->stat()->length == 10'001);
  REQUIRE_THAT(file->write(5'000, pattern(5'000, 1)), IsOk());
  CHECK(file->stat()->length == 10'001);
}

TEST_CASE("PosixFile: with O_DIRECT odd writes of several threads keep shared blocks whole",
          "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, direct_options());
  if (file == nullptr) return;
  constexpr uint64_t kStep = 100;
  constexpr uint64_t kSteps = 300;
  const auto write_every_other = [&](uint64_t first) {
    for (uint64_t i = first; i < kSteps; i += 2) {
      if (!file->write(i * kStep, pattern(i * kStep, kStep))) std::abort();
    }
  };
  std::thread other([&] { write_every_other(0); });
  write_every_other(1);
  other.join();
  std::vector<std::byte> buffer(kStep * kSteps);
  REQUIRE_THAT(file->read(0, buffer), IsOk());
  CHECK(is_pattern(buffer, 0));
}

TEST_CASE("PosixFile: block_status at the end of a dense file is a hole", "[loop][posix_file]") {
  const TempDir directory;
  const auto file = open_new(directory, {});
  REQUIRE_THAT(file->write(0, pattern(0, 10'000)), IsOk());
  const Result<FileExtent> data = file->block_status(0, 1 * kMiB);
  REQUIRE_THAT(data, IsOk());
  CHECK(data->is_data);
  CHECK(data->length == 10'000);
  const Result<FileExtent> end = file->block_status(10'000, 1 * kMiB);
  REQUIRE_THAT(end, IsOk());
  CHECK_FALSE(end->is_data);
}

}  // namespace imgconv
