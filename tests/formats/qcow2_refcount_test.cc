// Refcount entries of every width: packing order and neighbours (QCOW2.md 2).
#include <catch2/catch.hpp>

#include <array>

#include "formats/qcow2/refcount_width.h"

namespace imgconv::qcow2 {

TEST_CASE("Refcount: narrow entries are packed from the lowest bit of each byte",
          "[formats][qcow2]") {
  std::array<std::byte, 2> block{};
  store_refcount(block.data(), 9, 0, 1);
  CHECK(block[1] == std::byte{0x02});
  store_refcount(block.data(), 3, 1, 2);
  CHECK(block[0] == std::byte{0x80});
  store_refcount(block.data(), 0, 2, 0xf);
  CHECK(block[0] == std::byte{0x8f});
  CHECK(load_refcount(block.data(), 1, 2) == 8);
}

TEST_CASE("Refcount: wide entries are big-endian", "[formats][qcow2]") {
  std::array<std::byte, 16> block{};
  store_refcount(block.data(), 1, 4, 0x0102);
  CHECK(block[2] == std::byte{1});
  store_refcount(block.data(), 1, 6, 5);
  CHECK(block[15] == std::byte{5});
}

TEST_CASE("Refcount: storing an entry leaves its neighbours alone", "[formats][qcow2]") {
  for (unsigned order = 0; order <= 6; ++order) {
    CAPTURE(order);
    std::array<std::byte, 64> block;
    block.fill(std::byte{0xff});
    store_refcount(block.data(), 3, order, 0);
    CHECK(load_refcount(block.data(), 3, order) == 0);
    CHECK(load_refcount(block.data(), 2, order) != 0);
    CHECK(load_refcount(block.data(), 4, order) != 0);
    store_refcount(block.data(), 3, order, 1);
    CHECK(load_refcount(block.data(), 3, order) == 1);
  }
}

}  // namespace imgconv::qcow2
