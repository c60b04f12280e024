#include "formats/qcow2/bitmap_bits.h"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

namespace imgconv::qcow2 {

namespace {

std::vector<bool> unpack(const std::vector<std::byte>& bytes) {
  std::vector<bool> bits;
  for (const std::byte byte : bytes) {
    for (int i = 0; i < 8; ++i) bits.push_back((std::to_integer<int>(byte) >> i & 1) != 0);
  }
  return bits;
}

}  // namespace

TEST_CASE("set_bits: every range of three bytes sets its bits and no others", "[formats][qcow2]") {
  for (uint64_t first = 0; first < 24; ++first) {
    for (uint64_t end = first + 1; end <= 24; ++end) {
      std::vector<std::byte> bytes(3);
      CHECK(set_bits(bytes, first, end));
      CHECK_FALSE(set_bits(bytes, first, end));
      const std::vector<bool> bits = unpack(bytes);
      for (uint64_t i = 0; i < 24; ++i) REQUIRE(bits[i] == (i >= first && i < end));
    }
  }
}

TEST_CASE("clear_bits_from: the bits behind go, those before stay", "[formats][qcow2]") {
  for (uint64_t first = 0; first <= 24; ++first) {
    std::vector<std::byte> bytes(3, std::byte{0xff});
    clear_bits_from(bytes, first);
    const std::vector<bool> bits = unpack(bytes);
    for (uint64_t i = 0; i < 24; ++i) REQUIRE(bits[i] == (i < first));
  }
}

TEST_CASE("find_bit: finds what looking at every bit finds", "[formats][qcow2]") {
  std::mt19937 random(20265);
  for (int round = 0; round < 200; ++round) {
    // Mostly words of one value, so that skipping them is seen.
    std::vector<std::byte> bytes(40, std::byte{random() % 2 == 0 ? uint8_t{0} : uint8_t{0xff}});
    for (int i = 0; i < round % 4; ++i) bytes[random() % 40] ^= std::byte{uint8_t(random())};
    const std::vector<bool> bits = unpack(bytes);
    const uint64_t first = random() % 320;
    const uint64_t end = first + random() % (321 - first);
    for (const bool value : {false, true}) {
      uint64_t expected = first;
      while (expected < end && bits[expected] != value) ++expected;
      REQUIRE(find_bit(bytes, first, end, value) == expected);
    }
  }
}

}  // namespace imgconv::qcow2
