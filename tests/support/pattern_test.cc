#include "tests/support/pattern.h"

#include <catch2/catch.hpp>

namespace imgconv::test {
namespace {

TEST_CASE("Pattern: an unaligned piece equals the same piece of a larger one", "[support]") {
  const std::vector<std::byte> whole = pattern(0, 64);
  const std::vector<std::byte> piece = pattern(13, 30);
  CHECK(std::equal(piece.begin(), piece.end(), whole.begin() + 13));
}

TEST_CASE("Pattern: misplaced data says where it came from", "[support]") {
  const std::vector<std::byte> moved = pattern(4096, 512);
  CHECK(pattern_mismatch(moved, 0).value().find("word of offset 4096, seed 0xa55a") !=
        std::string::npos);
  CHECK(is_pattern(moved, 4096));
  CHECK_FALSE(is_pattern(moved, 4096, 7));
}

TEST_CASE("Pattern: missing data is called zeros", "[support]") {
  const std::vector<std::byte> nothing(16);
  CHECK(pattern_mismatch(nothing, 8).value() == "byte 8 is 0x00, not 0xa5 (zeros)");
  CHECK(is_zero(nothing));
}

}  // namespace
}  // namespace imgconv::test
