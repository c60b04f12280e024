#include "cmd/map_printer.h"

#include <catch2/catch.hpp>

namespace imgconv {

namespace {

ChainExtent data_at(uint64_t guest_offset, uint64_t host_offset) {
  ChainExtent chain_extent;
  chain_extent.extent.guest_offset = guest_offset;
  chain_extent.extent.length = 65536;
  chain_extent.extent.kind = ExtentKind::kData;
  chain_extent.extent.has_host_offset = true;
  chain_extent.extent.host_offset = host_offset;
  chain_extent.is_present = true;
  return chain_extent;
}

ChainExtent of_kind(ExtentKind kind) {
  ChainExtent chain_extent = data_at(0, 0);
  chain_extent.extent.kind = kind;
  chain_extent.extent.has_host_offset = false;
  return chain_extent;
}

}  // namespace

TEST_CASE("map: the states of clusters follow the contract's table", "[cmd]") {
  const MapEntry compressed = to_map_entry(of_kind(ExtentKind::kCompressed));
  CHECK(compressed.is_data);
  CHECK(compressed.is_compressed);
  CHECK_FALSE(compressed.is_zero);
  CHECK_FALSE(compressed.host_offset);

  const MapEntry zero = to_map_entry(of_kind(ExtentKind::kZero));
  CHECK(zero.is_zero);
  CHECK_FALSE(zero.is_data);

  ChainExtent preallocated = data_at(0, 4096);
  preallocated.extent.is_zero = true;
  const MapEntry both = to_map_entry(preallocated);
  CHECK(both.is_zero);
  CHECK(both.is_data);
  CHECK(both.host_offset == 4096u);
}

TEST_CASE("map: neighbours merge when the host offsets continue", "[cmd]") {
  const MapEntry first = to_map_entry(data_at(0, 327680));
  CHECK(can_merge(first, to_map_entry(data_at(65536, 393216))));
  CHECK_FALSE(can_merge(first, to_map_entry(data_at(65536, 458752))));
}

TEST_CASE("map: neighbours of another depth or state do not merge", "[cmd]") {
  const MapEntry first = to_map_entry(data_at(0, 327680));
  ChainExtent deeper = data_at(65536, 393216);
  deeper.depth = 1;
  CHECK_FALSE(can_merge(first, to_map_entry(deeper)));
  ChainExtent zero = data_at(65536, 393216);
  zero.extent.is_zero = true;
  CHECK_FALSE(can_merge(first, to_map_entry(zero)));
  CHECK(can_merge(to_map_entry(of_kind(ExtentKind::kZero)),
                  to_map_entry(of_kind(ExtentKind::kZero))));
}

}  // namespace imgconv
