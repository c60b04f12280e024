#include "engine/zero_scan.h"

#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <vector>

#include "loop/units.h"

namespace imgconv {
namespace {

TEST_CASE("Zero scan: every form finds a single byte wherever it stands", "[engine]") {
  for (const NamedSectorScan& form : sector_scans()) {
    INFO("form " << form.name);
    std::vector<std::byte> data(3 * kSectorSize);
    for (size_t at = 0; at < data.size(); ++at) {
      data[at] = std::byte{0x80};
      uint64_t bitmap = ~uint64_t{0};
      form.scan(data, std::span(&bitmap, 1));
      REQUIRE(bitmap == uint64_t{1} << (at / kSectorSize));
      data[at] = std::byte{0};
    }
    uint64_t bitmap = ~uint64_t{0};
    form.scan(data, std::span(&bitmap, 1));
    REQUIRE(bitmap == 0);
  }
}

TEST_CASE("Zero scan: all forms agree on random buffers of every length and alignment",
          "[engine]") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 400; ++round) {
    const size_t length = random() % (70 * kSectorSize) + 1;
    const size_t misalignment = random() % 64;
    std::vector<std::byte> memory(length + misalignment);
    const std::span<std::byte> data = std::span(memory).subspan(misalignment);
    for (size_t hits = random() % 40; hits > 0; --hits) {
      data[random() % length] = std::byte{1};
    }
    const size_t words = sector_bitmap_words(div_round_up(length, kSectorSize));
    std::vector<uint64_t> expected(words, ~uint64_t{0});
    scan_sectors_scalar(data, expected);
    for (const NamedSectorScan& form : sector_scans()) {
      INFO("form " << form.name << ", length " << length);
      std::vector<uint64_t> bitmap(words, ~uint64_t{0});
      form.scan(data, bitmap);
      REQUIRE(bitmap == expected);
    }
  }
}

TEST_CASE("Zero scan: nothing behind the buffer is read", "[engine]") {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const memory =
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  std::byte* const bytes = static_cast<std::byte*>(memory);
  REQUIRE(mprotect(bytes + page, page, PROT_NONE) == 0);
  for (const NamedSectorScan& form : sector_scans()) {
    for (size_t length = 1; length <= page; length += 37) {
      uint64_t bitmap = 0;
      form.scan(std::span(bytes + page - length, length), std::span(&bitmap, 1));
      REQUIRE(bitmap == 0);
    }
  }
  munmap(memory, 2 * page);
}

TEST_CASE("Zero scan: a last partial sector counts as a sector", "[engine]") {
  std::vector<std::byte> data(kSectorSize + 3);
  data.back() = std::byte{1};
  uint64_t bitmap = 0;
  scan_sectors(data, std::span(&bitmap, 1));
  REQUIRE(bitmap == 2);
}

TEST_CASE("is_all_zero: one byte at the end of a large buffer is noticed", "[engine]") {
  std::vector<std::byte> data(200 * kSectorSize);
  REQUIRE(is_all_zero(data));
  data.back() = std::byte{1};
  REQUIRE_FALSE(is_all_zero(data));
  REQUIRE(is_all_zero({}));
}

}  // namespace
}  // namespace imgconv
