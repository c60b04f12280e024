#include <catch2/catch.hpp>
#include <type_traits>
#include <utility>

#include "formats/qcow2/entries.h"
#include "formats/qcow2/units.h"

namespace imgconv::qcow2 {
namespace {

template <class A, class B>
concept Addable = requires(A a, B b) {
  a + b;
};
template <class A, class B>
concept Subtractable = requires(A a, B b) {
  a - b;
};

static_assert(!Addable<GuestOffset, HostOffset> && !Subtractable<GuestOffset, HostOffset>);
static_assert(!Addable<HostOffset, HostOffset> && !Addable<HostOffset, ClusterCount>);
static_assert(!Addable<GuestCluster, HostCluster> && !std::is_convertible_v<uint64_t, HostOffset>);
static_assert(std::is_same_v<decltype(HostOffset() - HostOffset()), uint64_t>);
static_assert(std::is_same_v<decltype(HostCluster() + ClusterCount()), HostCluster>);

TEST_CASE("units: an offset inside a cluster has a containing cluster but is not aligned",
          "[formats][qcow2]") {
  CHECK(containing_cluster(HostOffset(0x2ffff), 16) == HostCluster(2));
  CHECK_FALSE(cluster_if_aligned(HostOffset(0x2ffff), 16).has_value());
  CHECK(cluster_if_aligned(HostOffset(0x20000), 16) == HostCluster(2));
  CHECK(clusters_for(0x20001, 16) == ClusterCount(3));
  CHECK(clusters_for(0, 16) == ClusterCount(0));
}

TEST_CASE("L1Entry: offset, copied bit and reserved bits do not overlap", "[formats][qcow2]") {
  const L1Entry entry = L1Entry::table(HostOffset(0x50000), Copied::kYes);
  CHECK(entry.raw() == 0x8000000000050000);
  CHECK(entry.table_offset() == HostOffset(0x50000));
  CHECK(entry.is_copied());
  CHECK(entry.reserved_bits() == 0);
  CHECK(L1Entry(~uint64_t{0}).reserved_bits() == 0x7f000000000001ff);
  CHECK_FALSE(L1Entry(0x1ff).has_table());
}

TEST_CASE("L2Entry: standard entries are classified by zero flag and offset", "[formats][qcow2]") {
  const L2Format format{16, false, false};
  CHECK(L2Entry(0).type(format) == ClusterType::kUnallocated);
  CHECK(L2Entry(1).type(format) == ClusterType::kZeroPlain);
  CHECK(L2Entry(0x50001).type(format) == ClusterType::kZeroAllocated);
  CHECK(L2Entry(0x50000).type(format) == ClusterType::kNormal);
  CHECK(L2Entry(kCompressedBit | 1).type(format) == ClusterType::kCompressed);
  CHECK(L2Entry(kCopiedBit).type(format) == ClusterType::kUnallocated);
}

TEST_CASE("L2Entry: with a data file the copied bit allocates offset 0", "[formats][qcow2]") {
  CHECK(L2Entry(kCopiedBit).type({16, false, true}) == ClusterType::kNormal);
  CHECK(L2Entry(0).type({16, false, true}) == ClusterType::kUnallocated);
}

TEST_CASE("L2Entry: extended entries ignore the zero flag and ask the bitmap", "[formats][qcow2]") {
  const L2Format format{16, true, false};
  const auto type = [&](uint64_t raw, uint64_t bitmap, unsigned subcluster) {
    return L2Entry(raw, SubclusterBitmap(bitmap)).subcluster_type(format, subcluster);
  };
  // Example of QCOW2.md 5: 2 KiB data at 0, 2 KiB zeroed at 4 KiB.
  CHECK(type(0x8000000000050000, 0x0000000400000001, 0) == SubclusterType::kNormal);
  CHECK(type(0x8000000000050000, 0x0000000400000001, 1) == SubclusterType::kUnallocatedAllocated);
  CHECK(type(0x8000000000050000, 0x0000000400000001, 2) == SubclusterType::kZeroAllocated);
  CHECK(type(0, 0xffffffff00000000, 31) == SubclusterType::kZeroPlain);
  CHECK(type(0, 0, 5) == SubclusterType::kUnallocated);
  CHECK(type(1, 0, 5) == SubclusterType::kUnallocated);
  CHECK(type(kCompressedBit, 0, 5) == SubclusterType::kCompressed);
}

TEST_CASE("L2Entry: a contradiction in one subcluster spoils all of them", "[formats][qcow2]") {
  const L2Format format{16, true, false};
  const L2Entry both(0x50000, SubclusterBitmap(0x0000000100000001));
  CHECK(both.subcluster_type(format, 7) == SubclusterType::kInvalid);
  const L2Entry homeless(0, SubclusterBitmap(0x00000002));
  CHECK(homeless.subcluster_type(format, 0) == SubclusterType::kInvalid);
}

TEST_CASE("L2Entry: a compressed stream survives packing for every cluster size",
          "[formats][qcow2]") {
  for (unsigned cluster_bits = 9; cluster_bits <= 21; ++cluster_bits) {
    CAPTURE(cluster_bits);
    const uint64_t length = (uint64_t{1} << cluster_bits) - 1;
    const HostOffset offset(0x123456789);
    const L2Entry entry = L2Entry::compressed(offset, length, cluster_bits);
    CHECK(entry.is_compressed());
    CHECK_FALSE(entry.is_copied());
    const CompressedLocation location = entry.compressed_location(cluster_bits);
    CHECK(location.offset == offset);
    CHECK(location.length >= length);
    CHECK(location.length < length + 512);
    CHECK((location.offset.bytes() + location.length) % 512 == 0);
  }
}

TEST_CASE("SubclusterBitmap: allocating clears the zero bit and the reverse", "[formats][qcow2]") {
  const uint32_t mask = SubclusterBitmap::range_mask(4, 2);
  CHECK(mask == 0x30);
  CHECK(SubclusterBitmap::range_mask(0, 32) == 0xffffffff);
  const SubclusterBitmap zero = SubclusterBitmap().with_zero(mask);
  CHECK(zero.raw() == 0x0000003000000000);
  CHECK(zero.with_allocated(0x10).raw() == 0x0000002000000010);
  CHECK(zero.with_allocated(0x10).with_zero(0x10) == zero);
}

}  // namespace
}  // namespace imgconv::qcow2
