// What every File promises, whatever serves it. A new implementation is one more line in the enum
// and in make_file().
#include <fcntl.h>
#include <fmt/core.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "loop/io_buffer.h"
#include "loop/pool_file.h"
#include "loop/posix_file.h"
#include "loop/task_group.h"
#include "loop/units.h"
#include "loop/uring_file.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_file.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using test::FailsWith;
using test::is_pattern;
using test::is_zero;
using test::IsOk;
using test::LoopFixture;
using test::pattern;

enum class Kind { kMemory, kPool, kPoolTmpfs, kPoolDirect, kRing, kRingDirect };

std::string describe(Kind kind) {
  switch (kind) {
    case Kind::kMemory:
      return "pool over memory";
    case Kind::kPool:
      return "pool over a file";
    case Kind::kPoolTmpfs:
      return "pool over a file on tmpfs";
    case Kind::kPoolDirect:
      return "pool over a file, O_DIRECT";
    case Kind::kRing:
      return "ring";
    case Kind::kRingDirect:
      return "ring, O_DIRECT";
  }
  return "";
}

/// An empty writable file of one kind, with everything under it.
class Subject {
 public:
  explicit Subject(Kind kind) : kind_(kind) {
    make_file();
    if (file_ == nullptr) fmt::print("skipped: {}: {}\n", describe(kind), reason_);
  }

  bool is_available() const { return file_ != nullptr; }
  File& file() { return *file_; }
  LoopFixture& loop() { return loop_; }
  std::string name() const { return describe(kind_); }

  Result<size_t> read(uint64_t offset, std::span<std::byte> buffer) {
    return loop_.run(file_->read(offset, buffer));
  }
  Result<void> write(uint64_t offset, std::span<const std::byte> data) {
    return loop_.run(file_->write(offset, data));
  }
  Result<void> write_pattern(uint64_t offset, uint64_t length) {
    const std::vector<std::byte> data = pattern(offset, length);
    return write(offset, data);
  }
  /// What the file holds in the range; shorter at the end of the file.
  std::vector<std::byte> content(uint64_t offset, size_t length) {
    std::vector<std::byte> buffer(length, std::byte{0xEE});
    const Result<size_t> count = read(offset, buffer);
    REQUIRE_THAT(count, IsOk());
    buffer.resize(*count);
    return buffer;
  }
  uint64_t length() {
    const Result<FileStat> stat = file_->stat();
    REQUIRE_THAT(stat, IsOk());
    return stat->length;
  }

 private:
  void make_file() {
    if (kind_ == Kind::kMemory) {
      file_ = std::make_unique<PoolFile>(std::make_unique<test::MemFile>(), loop_.pool());
      return;
    }
    const bool is_ring = kind_ == Kind::kRing || kind_ == Kind::kRingDirect;
    if (is_ring && loop_.ring() == nullptr) {
      reason_ = "io_uring is not available: " + loop_.ring_error();
      return;
    }
    std::unique_ptr<PosixFile> posix = open_file();
    if (posix == nullptr) return;
    if (is_ring) {
      file_ = std::make_unique<UringFile>(std::move(posix), *loop_.ring(), loop_.pool());
    } else {
      file_ = std::make_unique<PoolFile>(std::move(posix), loop_.pool());
    }
  }

  std::unique_ptr<PosixFile> open_file() {
    std::string path = directory_.file("subject");
    if (kind_ == Kind::kPoolTmpfs) path = "/dev/shm/imgconv-test-" + std::to_string(::getpid());
    PosixFileOptions options;
    options.is_direct = kind_ == Kind::kPoolDirect || kind_ == Kind::kRingDirect;
    const int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | (options.is_direct ? O_DIRECT : 0);
    UniqueFd descriptor(::open(path.c_str(), flags, 0600));
    if (!descriptor.is_open()) {
      reason_ = errno_text(errno);
      return nullptr;
    }
    ::unlink(path.c_str());
    auto posix = PosixFile::adopt(std::move(descriptor), path, options);
    REQUIRE_THAT(posix, IsOk());
    return std::move(*posix);
  }

  const Kind kind_;
  LoopFixture loop_;
  test::TempDir directory_;
  std::string reason_;
  std::unique_ptr<File> file_;
};

#define FOR_EACH_FILE(subject)                                                              \
  Subject subject(GENERATE(Kind::kMemory, Kind::kPool, Kind::kPoolTmpfs, Kind::kPoolDirect, \
                           Kind::kRing, Kind::kRingDirect));                                \
  if (!subject.is_available()) return;                                                      \
  INFO(subject.name())

}  // namespace

TEST_CASE("File: what was written is read back, aligned or not", "[loop][file]") {
  FOR_EACH_FILE(subject);
  struct Range {
    uint64_t offset;
    uint64_t length;
  };
  const std::vector<Range> ranges = {{0, 65536},       {131072, 4096},   {1, 1},
                                     {70'001, 12'345}, {300'000, 4095},  {511, 513},
                                     {4096, 1},        {5 * kMiB, 3000}, {8191, 2}};
  for (const Range& range : ranges) {
    REQUIRE_THAT(subject.write_pattern(range.offset, range.length), IsOk());
  }
  for (const Range& range : ranges) {
    CHECK(is_pattern(subject.content(range.offset, range.length), range.offset));
  }
  CHECK(subject.length() == 5 * kMiB + 3000);
}

TEST_CASE("File: an unaligned write leaves its neighbours alone", "[loop][file]") {
  FOR_EACH_FILE(subject);
  REQUIRE_THAT(subject.write_pattern(0, 64 * kKiB), IsOk());
  const std::vector<std::byte> other = pattern(1000, 30'000, 77);
  REQUIRE_THAT(subject.write(1000, other), IsOk());
  CHECK(is_pattern(subject.content(0, 1000), 0));
  CHECK(is_pattern(subject.content(1000, 30'000), 1000, 77));
  CHECK(is_pattern(subject.content(31'000, 64 * kKiB - 31'000), 31'000));
  CHECK(subject.length() == 64 * kKiB);
}

TEST_CASE("File: a read over the end is short, one behind it empty", "[loop][file]") {
  FOR_EACH_FILE(subject);
  REQUIRE_THAT(subject.write_pattern(0, 10'000), IsOk());
  CHECK(is_pattern(subject.content(0, 64 * kKiB), 0));
  CHECK(subject.content(0, 64 * kKiB).size() == 10'000);
  CHECK(subject.content(9'999, 100).size() == 1);
  CHECK(subject.content(10'000, 100).empty());
  CHECK(subject.content(1 * kMiB, 4096).empty());
  IoBuffer aligned(16 * kKiB);
  const Result<size_t> count = subject.read(8192, aligned.span());
  REQUIRE_THAT(count, IsOk());
  CHECK(*count == 10'000 - 8192);
}

TEST_CASE("File: empty requests succeed and change nothing", "[loop][file]") {
  FOR_EACH_FILE(subject);
  CHECK_THAT(subject.write(5000, {}), IsOk());
  CHECK(subject.content(0, 0).empty());
  CHECK(subject.length() == 0);
}

TEST_CASE("File: a hole reads as zeros and is reported as a hole", "[loop][file]") {
  FOR_EACH_FILE(subject);
  REQUIRE_THAT(subject.write_pattern(1 * kMiB, 64 * kKiB), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().truncate(3 * kMiB)), IsOk());
  CHECK(is_zero(subject.content(0, 1 * kMiB)));
  CHECK(is_zero(subject.content(2 * kMiB, 1 * kMiB)));

  const auto extent_at = [&](uint64_t offset, uint64_t length) {
    const Result<FileExtent> extent =
        subject.loop().run(subject.file().block_status(offset, length));
    REQUIRE_THAT(extent, IsOk());
    CHECK(extent->host_offset == offset);
    return *extent;
  };
  const FileExtent hole = extent_at(0, 10 * kMiB);
  CHECK_FALSE(hole.is_data);
  CHECK(hole.length == 1 * kMiB);
  const FileExtent data = extent_at(1 * kMiB, 10 * kMiB);
  CHECK(data.is_data);
  CHECK(data.length == 64 * kKiB);
  CHECK(extent_at(1 * kMiB, 4096).length == 4096);
  const FileExtent tail = extent_at(1 * kMiB + 64 * kKiB, 10 * kMiB);
  CHECK_FALSE(tail.is_data);
  CHECK(tail.length >= 2 * kMiB - 64 * kKiB);
  CHECK_FALSE(extent_at(20 * kMiB, 4096).is_data);
}

TEST_CASE("File: write_zeroes makes any range read as zeros and spares the rest", "[loop][file]") {
  FOR_EACH_FILE(subject);
  const bool may_unmap = GENERATE(false, true);
  ZeroFlags flags;
  flags.may_unmap = may_unmap;
  REQUIRE_THAT(subject.write_pattern(0, 256 * kKiB), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().write_zeroes(10'001, 100'003, flags)), IsOk());
  CHECK(is_pattern(subject.content(0, 10'001), 0));
  CHECK(is_zero(subject.content(10'001, 100'003)));
  CHECK(is_pattern(subject.content(110'004, 256 * kKiB - 110'004), 110'004));
  CHECK(subject.length() == 256 * kKiB);
}

TEST_CASE("File: write_zeroes over the end extends the file", "[loop][file]") {
  FOR_EACH_FILE(subject);
  const bool may_unmap = GENERATE(false, true);
  ZeroFlags flags;
  flags.may_unmap = may_unmap;
  REQUIRE_THAT(subject.write_pattern(0, 8192), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().write_zeroes(4096, 100'000, flags)), IsOk());
  CHECK(subject.length() == 104'096);
  CHECK(is_pattern(subject.content(0, 4096), 0));
  const std::vector<std::byte> rest = subject.content(4096, 200'000);
  CHECK(rest.size() == 100'000);
  CHECK(is_zero(rest));
}

TEST_CASE("File: write_zeroes that may unmap gives the space back", "[loop][file]") {
  FOR_EACH_FILE(subject);
  ZeroFlags flags;
  flags.may_unmap = true;
  REQUIRE_THAT(subject.write_pattern(0, 1 * kMiB), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().flush()), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().write_zeroes(0, 1 * kMiB, flags)), IsOk());
  const Result<FileStat> stat = subject.file().stat();
  REQUIRE_THAT(stat, IsOk());
  CHECK(stat->allocated < 64 * kKiB);
  CHECK(stat->length == 1 * kMiB);
}

TEST_CASE("File: allocate extends, keeps what is there and takes space", "[loop][file]") {
  FOR_EACH_FILE(subject);
  REQUIRE_THAT(subject.write_pattern(0, 5000), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().allocate(0, 1 * kMiB)), IsOk());
  CHECK(subject.length() == 1 * kMiB);
  CHECK(is_pattern(subject.content(0, 5000), 0));
  CHECK(is_zero(subject.content(5000, 1 * kMiB - 5000)));
  const Result<FileStat> stat = subject.file().stat();
  REQUIRE_THAT(stat, IsOk());
  CHECK(stat->allocated >= 1 * kMiB);
}

TEST_CASE("File: truncate cuts, and what it adds reads as zeros", "[loop][file]") {
  FOR_EACH_FILE(subject);
  REQUIRE_THAT(subject.write_pattern(0, 100'000), IsOk());
  REQUIRE_THAT(subject.loop().run(subject.file().truncate(50'001)), IsOk());
  CHECK(subject.length() == 50'001);
  REQUIRE_THAT(subject.loop().run(subject.file().truncate(100'000)), IsOk());
  CHECK(is_pattern(subject.content(0, 50'001), 0));
  CHECK(is_zero(subject.content(50'001, 49'999)));
}

TEST_CASE("File: many requests at once keep apart", "[loop][file]") {
  FOR_EACH_FILE(subject);
  // Odd lengths, so that with O_DIRECT neighbours share blocks.
  constexpr uint64_t kLength = 5'003;
  constexpr uint64_t kRequests = 200;
  std::vector<std::vector<std::byte>> data;
  for (uint64_t i = 0; i < kRequests; ++i) data.push_back(pattern(i * kLength, kLength));
  TaskGroup writes;
  for (uint64_t i = 0; i < kRequests; ++i) {
    writes.spawn(subject.file().write(i * kLength, data[i]));
  }
  REQUIRE_THAT(subject.loop().run(writes.join()), IsOk());
  CHECK(is_pattern(subject.content(0, kRequests * kLength), 0));
  CHECK(subject.length() == kRequests * kLength);
}

TEST_CASE("File: aligned and unaligned writes that extend the file at once lose nothing",
          "[loop][file]") {
  FOR_EACH_FILE(subject);
  constexpr uint64_t kStep = 64 * kKiB;
  std::vector<IoBuffer> buffers;
  TaskGroup writes;
  for (uint64_t i = 0; i < 64; ++i) {
    const uint64_t length = i % 3 == 0 ? kStep - 100 : kStep;
    buffers.emplace_back(length);
    test::fill_pattern(buffers.back().span(), i * kStep);
    writes.spawn(subject.file().write(i * kStep, buffers.back().span()));
  }
  REQUIRE_THAT(subject.loop().run(writes.join()), IsOk());
  for (uint64_t i = 0; i < 64; ++i) {
    CHECK(is_pattern(subject.content(i * kStep, buffers[i].size()), i * kStep));
  }
}

TEST_CASE("File: a range that ends behind the largest offset fails", "[loop][file]") {
  FOR_EACH_FILE(subject);
  std::vector<std::byte> buffer(4096);
  const uint64_t beyond = UINT64_MAX - 100;
  CHECK_FALSE(subject.write(beyond, buffer).has_value());
  CHECK_FALSE(subject.loop().run(subject.file().write_zeroes(beyond, 4096, {})).has_value());
  CHECK(subject.length() == 0);
}

TEST_CASE("File: blocking() takes several writes in their order", "[loop][file]") {
  FOR_EACH_FILE(subject);
  const std::vector<std::byte> early = pattern(1 * kMiB, 3'000);
  const std::vector<std::byte> late = pattern(2'000, 1'000);
  const std::array<FileWrite, 2> writes = {FileWrite{0, early}, FileWrite{2'000, late}};
  REQUIRE_THAT(subject.file().blocking().write_all(writes), IsOk());
  std::vector<std::byte> buffer(3'000);
  REQUIRE_THAT(subject.file().blocking().read(0, buffer), IsOk());
  CHECK(is_pattern(std::span(buffer).first(2'000), 1 * kMiB));
  CHECK(is_pattern(std::span(buffer).subspan(2'000), 2'000));
}

TEST_CASE("File: blocking() shows the same bytes", "[loop][file]") {
  FOR_EACH_FILE(subject);
  REQUIRE_THAT(subject.write_pattern(0, 10'000), IsOk());
  std::vector<std::byte> buffer(10'000);
  const Result<size_t> count = subject.file().blocking().read(0, buffer);
  REQUIRE_THAT(count, IsOk());
  CHECK(is_pattern(buffer, 0));
}

}  // namespace imgconv
