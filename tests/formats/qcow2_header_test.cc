#include "formats/qcow2/header.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "tests/support/matchers.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::qcow2 {
namespace {

using test::FailsSaying;
using test::FailsWith;
using test::IsOk;
using test::Qcow2Builder;

Qcow2Builder plain() { return Qcow2Builder().size(kGiB); }

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

struct Damage {
  std::string message;
  uint64_t offset;
  uint32_t value;
};

TEST_CASE("Header: the fields of a plain image are understood", "[formats][qcow2]") {
  const auto header = Header::parse(plain().backing("base.img", "raw").bytes());
  REQUIRE_THAT(header, IsOk());
  CHECK(header->version == 3);
  CHECK(header->cluster_size() == 65536);
  CHECK(header->virtual_size == kGiB);
  CHECK(header->l1_entries == 2);
  CHECK(header->refcount_bits() == 16);
  CHECK(header->backing_file == "base.img");
  CHECK(header->extensions.backing_format == "raw");
}

TEST_CASE("Header: version 2 has no features and 16-bit refcounts", "[formats][qcow2]") {
  const auto header = Header::parse(plain().version(2).bytes());
  REQUIRE_THAT(header, IsOk());
  CHECK(header->incompatible_features == 0);
  CHECK(header->refcount_order == 4);
}

TEST_CASE("Header: each damaged field is refused in QEMU's words", "[formats][qcow2]") {
  const std::vector<Damage> damages = {
      {"Image is not in qcow2 format", 0, 0x514649fa},
      {"Unsupported qcow2 version 4", 4, 4},
      {"Unsupported cluster size: 2^8", 20, 8},
      {"Unsupported cluster size: 2^22", 20, 22},
      {"qcow2 header too short", 100, 103},
      {"qcow2 header exceeds cluster size", 100, 65537},
      {"Invalid backing file offset", 12, 65537},
      {"qcow2: unknown compression type: 2", 104, 0x02000000},
      {"qcow2: Compression type incompatible feature bit must be set", 104, 0x01000000},
      {"qcow2: Compression type incompatible feature bit must not be set", 76, 8},
      {"Reference count entry width too large; may not exceed 64 bits", 96, 7},
      {"Image does not contain a reference count table", 56, 0},
      {"Reference count table too large", 56, 129},
      {"Reference count table offset invalid", 52, 0x10200},
      {"Snapshot table too large", 60, 65537},
      {"Snapshot table offset invalid", 68, 0x200},
      {"Active L1 table too large", 36, 4194305},
      {"Active L1 table offset invalid", 44, 0x30008},
      {"Active L1 table offset invalid", 40, 0x80000000},
      {"L1 table is too small", 36, 1},
      {"Unsupported encryption method 3", 32, 3},
      {"Missing CRYPTO header for crypt method 2", 32, 2},
      {"data-file-raw requires a data file", 92, 2},
  };
  for (const Damage& damage : damages) {
    CAPTURE(damage.message);
    const auto bytes = plain().poke_be32(damage.offset, damage.value).bytes();
    CHECK_THAT(Header::parse(bytes), FailsSaying(damage.message));
  }
}

TEST_CASE("Header: of two faults the one that QEMU sees first is told", "[formats][qcow2]") {
  CHECK_THAT(Header::parse(plain().poke_be32(56, 0).poke_be32(36, 1).bytes()),
             FailsSaying("Image does not contain a reference count table"));
  CHECK_THAT(Header::parse(plain().poke_be32(96, 7).poke_be32(76, 32).bytes()),
             FailsWith(ENOTSUP, "Unsupported qcow2 feature(s): "));
}

TEST_CASE("Header: unknown incompatible features are named by the image's own table",
          "[formats][qcow2]") {
  const auto bytes = plain().incompatible(1 << 5 | 1 << 7).feature_name(0, 5, "fancy").bytes();
  CHECK_THAT(Header::parse(bytes), FailsSaying("Unsupported qcow2 feature(s): fancy, "
                                               "Unknown incompatible feature: 80"));
}

TEST_CASE("Header: a corrupt image may be read but not written", "[formats][qcow2]") {
  const auto bytes = plain().incompatible(kIncompatCorrupt).bytes();
  CHECK_THAT(Header::parse(bytes), IsOk());
  CHECK_THAT(
      Header::parse(
          bytes,
          {.writable = true, .for_check = false, .incomplete_size = {}, .metadata_only = false}),
      FailsWith(EACCES, "qcow2: Image is corrupt; cannot be opened read/write"));
}

TEST_CASE("Header: check tolerates a missing refcount table and a wild snapshot table",
          "[formats][qcow2]") {
  const auto bytes = plain().poke_be32(56, 0).poke_be32(68, 0x200).bytes();
  CHECK_THAT(
      Header::parse(
          bytes,
          {.writable = false, .for_check = true, .incomplete_size = {}, .metadata_only = false}),
      IsOk());
}

TEST_CASE("Header: extended L2 entries need clusters of 16 KiB", "[formats][qcow2]") {
  CHECK_THAT(Header::parse(Qcow2Builder().cluster_bits(14).size(kMiB).extended_l2().bytes()),
             IsOk());
  CHECK_THAT(
      Header::parse(
          Qcow2Builder().cluster_bits(13).size(kMiB).incompatible(kIncompatExtendedL2).bytes()),
      FailsSaying("Unsupported subcluster size: 256"));
}

TEST_CASE("Header: a file of eight bytes is refused, not read beyond", "[formats][qcow2]") {
  auto bytes = plain().bytes();
  bytes.resize(8);
  CHECK_THAT(Header::parse(bytes), FailsSaying("Unsupported cluster size: 2^0"));
  CHECK(probe(bytes));
  CHECK_FALSE(probe({}));
}

TEST_CASE("Header: an extension that reaches past its space is refused", "[formats][qcow2]") {
  const auto bytes = plain().extension(0x12345678, bytes_of("hello")).poke_be32(116, 65536).bytes();
  CHECK_THAT(Header::parse(bytes), FailsSaying("Header extension too large"));
}

TEST_CASE("Header: a backing format of 16 characters is too long", "[formats][qcow2]") {
  CHECK_THAT(Header::parse(plain().backing("b", std::string(15, 'x')).bytes()), IsOk());
  CHECK_THAT(Header::parse(plain().backing("b", std::string(16, 'x')).bytes()),
             FailsSaying("ERROR: ext_backing_format: len=16 too large (>=16)"));
}

TEST_CASE("Header: bitmaps without their autoclear bit are dropped with a warning due",
          "[formats][qcow2]") {
  std::vector<std::byte> bitmaps(24);
  store_be<uint32_t>(&bitmaps[0], 1);
  store_be<uint64_t>(&bitmaps[8], 32);
  store_be<uint64_t>(&bitmaps[16], 0x50000);
  const auto valid = Header::parse(
      plain().extension(kExtensionBitmaps, bitmaps).autoclear(kAutoclearBitmaps).bytes());
  REQUIRE_THAT(valid, IsOk());
  REQUIRE(valid->extensions.bitmaps.has_value());
  CHECK(valid->extensions.bitmaps->directory_offset == HostOffset(0x50000));
  const auto stale = Header::parse(plain().extension(kExtensionBitmaps, bitmaps).bytes());
  REQUIRE_THAT(stale, IsOk());
  CHECK_FALSE(stale->extensions.bitmaps.has_value());
  CHECK(stale->extensions.has_inconsistent_bitmaps);
}

TEST_CASE("Header: unknown fields and extensions survive rewriting", "[formats][qcow2]") {
  const auto header =
      Header::parse(plain().header_length(128).extension(0x12345678, bytes_of("hello")).bytes());
  REQUIRE_THAT(header, IsOk());
  CHECK(header->unknown_fields == std::vector<std::byte>(16, std::byte{0xEE}));
  const auto bytes = header->serialize();
  REQUIRE_THAT(bytes, IsOk());
  const auto again = Header::parse(*bytes);
  REQUIRE_THAT(again, IsOk());
  CHECK(again->unknown_fields == header->unknown_fields);
  REQUIRE(again->extensions.unknown.size() == 1);
  CHECK(again->extensions.unknown[0].type == 0x12345678);
  CHECK(again->extensions.unknown[0].data == bytes_of("hello"));
}

TEST_CASE("Header: extensions begin at multiples of eight", "[formats][qcow2]") {
  const auto header = Header::parse(plain()
                                        .extension(0x12345678, bytes_of("hello"))
                                        .extension(0x12345679, bytes_of("world"))
                                        .bytes());
  REQUIRE_THAT(header, IsOk());
  REQUIRE(header->extensions.unknown.size() == 2);
  CHECK(header->extensions.unknown[1].data == bytes_of("world"));
}

TEST_CASE("Header: what does not fit into the first cluster is refused", "[formats][qcow2]") {
  Header header;
  header.cluster_bits = 9;
  header.backing_file = std::string(512 - 120, 'b');
  CHECK_THAT(header.serialize(), IsOk());
  header.backing_file += 'b';
  CHECK_THAT(header.serialize(), FailsWith(ENOSPC));
}

TEST_CASE("Header: any byte flipped or missing gives a value or an error", "[formats][qcow2]") {
  const auto good = Qcow2Builder()
                        .cluster_bits(9)
                        .size(kMiB)
                        .backing("base", "qcow2")
                        .feature_name(0, 9, "odd")
                        .bytes();
  for (size_t i = 0; i < 512; ++i) {
    auto flipped = good;
    flipped[i] ^= std::byte{0xff};
    const auto cut = std::span(good).first(i);
    for (const auto& header : {Header::parse(flipped), Header::parse(cut)}) {
      if (header) CHECK(header->cluster_bits <= kMaxClusterBits);
    }
  }
}

}  // namespace
}  // namespace imgconv::qcow2
