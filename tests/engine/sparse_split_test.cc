#include "engine/sparse_split.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/zero_scan.h"

namespace imgconv {
namespace {

std::vector<uint64_t> bitmap_of(const std::string& sectors) {
  std::vector<uint64_t> bitmap(sector_bitmap_words(sectors.size()));
  for (size_t i = 0; i < sectors.size(); ++i) {
    if (sectors[i] == 'x') bitmap[i / 64] |= uint64_t{1} << (i % 64);
  }
  return bitmap;
}

/// 'x' written, '.' left out, for a run of such sectors ('x' data, '.' zero).
std::string split(const std::string& sectors, uint64_t guest_sector, const SparseRule& rule) {
  std::vector<SparsePiece> pieces;
  sparse_split(bitmap_of(sectors), guest_sector, static_cast<uint32_t>(sectors.size()), rule,
               pieces);
  std::string written;
  for (const SparsePiece& piece : pieces) {
    REQUIRE(piece.first_sector == written.size());
    REQUIRE(piece.sectors > 0);
    written.append(piece.sectors, piece.is_data ? 'x' : '.');
  }
  return written;
}

// The rules of CLI.md 2.2 sector by sector, as a reader would do them by hand. Shares nothing with
// the code under test.
struct NaiveModel {
  const std::string& sectors;
  uint64_t guest_sector;
  uint64_t min;
  uint64_t align;

  std::pair<uint64_t, bool> stretch(uint64_t from) const {
    const bool data = sectors[from] == 'x';
    uint64_t i = 0;
    while (from + i < sectors.size() && (sectors[from + i] == 'x') == data) ++i;
    const uint64_t n = sectors.size() - from;
    const uint64_t t = (guest_sector + from + i) % align;
    if (i == n || t == 0) return {i, data};
    if (data || i <= t) {
      while (i < n && (guest_sector + from + i) % align != 0) ++i;
      return {i, true};
    }
    while ((guest_sector + from + i) % align != 0) --i;
    return {i, false};
  }

  std::string run() const {
    std::string written;
    while (written.size() < sectors.size()) {
      const uint64_t from = written.size();
      auto [length, data] = stretch(from);
      if (!data) {
        written.append(length, '.');
        continue;
      }
      const uint64_t enough = std::min<uint64_t>(min, sectors.size() - from);
      uint64_t end = from + length;
      for (uint64_t at = end; at < sectors.size();) {
        const auto [next, next_data] = stretch(at);
        if (!next_data && next >= enough) break;
        at += next;
        if (next_data) end = at;
      }
      written.append(end - from, 'x');
    }
    return written;
  }
};

TEST_CASE("Sparse split: a zero stretch shorter than -S stays part of the data", "[engine]") {
  REQUIRE(split("xx......xx", 0, {8, 1}) == "xxxxxxxxxx");
  REQUIRE(split("xx........xx", 0, {8, 1}) == "xx........xx");
}

TEST_CASE("Sparse split: data is extended to the alignment, zeros are cut back to it", "[engine]") {
  REQUIRE(split("x...............", 0, {8, 8}) == "xxxxxxxx........");
  REQUIRE(split("................x...............", 0, {8, 8}) ==
          "................xxxxxxxx........");
  REQUIRE(split("...................x............", 0, {8, 8}) ==
          "................xxxxxxxx........");
}

TEST_CASE("Sparse split: the alignment counts from the begin of the disk, not of the run",
          "[engine]") {
  REQUIRE(split("x...........", 4, {8, 8}) == "xxxx........");
}

TEST_CASE("Sparse split: a run that is all zero is left out however short it is", "[engine]") {
  REQUIRE(split("...", 5, {8, 8}) == "...");
}

TEST_CASE("Sparse split: zeros at the end of a run are left out however few they are", "[engine]") {
  REQUIRE(split("xxxxxxxxxx..", 6, {8, 1}) == "xxxxxxxxxx..");
}

TEST_CASE("Sparse split: agrees with a sector by sector model on random runs", "[engine]") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 20000; ++round) {
    const size_t length = random() % 300 + 1;
    std::string sectors;
    while (sectors.size() < length) {
      const size_t stretch = random() % (random() % 3 == 0 ? 80 : 12) + 1;
      sectors.append(stretch, random() % 2 == 0 ? 'x' : '.');
    }
    sectors.resize(length);
    const uint64_t guest_sector = random() % 5000;
    const uint64_t min = random() % 3 == 0 ? random() % 200 + 1 : uint64_t{1} << (random() % 8);
    const uint64_t align = uint64_t{1} << (random() % 8);
    INFO("sectors " << sectors << " at " << guest_sector << " min " << min << " align " << align);
    REQUIRE(split(sectors, guest_sector, {min, align}) ==
            NaiveModel{sectors, guest_sector, min, align}.run());
  }
}

}  // namespace
}  // namespace imgconv
