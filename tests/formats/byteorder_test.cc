#include "formats/byteorder.h"

#include <array>
#include <catch2/catch.hpp>

namespace imgconv {
namespace {

struct Pair {
  be16 first;
  be32 second;
};

TEST_CASE("byteorder: a field keeps its most significant byte first", "[formats][byteorder]") {
  const be32 field = 0x51464901;
  std::array<std::byte, 4> bytes{};
  store_struct(std::span<std::byte>(bytes), field);
  CHECK(bytes == std::array{std::byte{0x51}, std::byte{0x46}, std::byte{0x49}, std::byte{0x01}});
  CHECK(field.get() == 0x51464901);
}

TEST_CASE("byteorder: load_be reads at any alignment", "[formats][byteorder]") {
  std::array<std::byte, 11> bytes{};
  store_be<uint64_t>(&bytes[3], 0x0102030405060708);
  CHECK(bytes[3] == std::byte{1});
  CHECK(bytes[10] == std::byte{8});
  CHECK(load_be<uint64_t>(&bytes[3]) == 0x0102030405060708);
  CHECK(load_be<uint16_t>(&bytes[4]) == 0x0203);
}

TEST_CASE("byteorder: a structure cut short reads zeros for what is missing",
          "[formats][byteorder]") {
  const std::array bytes{std::byte{0x12}, std::byte{0x34}, std::byte{0x56}};
  const auto pair = load_struct<Pair>(bytes);
  CHECK(pair.first.get() == 0x1234);
  CHECK(pair.second.get() == 0x56000000);
}

}  // namespace
}  // namespace imgconv
