// Images cut and damaged at every place: opening and mapping them gives an answer or an error. The
// cases assert little themselves; the sanitizers and the test's time limit do.
#include <catch2/catch.hpp>

#include "tests/formats/qcow2_disk.h"
#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

namespace {

std::vector<std::byte> reference_image(bool is_extended) {
  Qcow2Builder builder;
  builder.cluster_bits(is_extended ? 14 : 9).backing("base.raw", "raw");
  if (is_extended) builder.extended_l2();
  const uint64_t size = builder.cluster_size();
  builder.size(12 * size).data(0, pattern(0, size)).zero_alloc(2).data(5, pattern(0, size));
  builder.compressed(6, std::vector<std::byte>(size, std::byte{5})).snapshot({});
  return builder.bytes();
}

/// Opens, maps, reads and checks what can be.
void exercise(std::span<const std::byte> bytes) {
  Qcow2Disk disk;
  disk.storage.add(Qcow2Disk::kName, bytes);
  if (!disk.try_open(false)) return;
  const uint64_t end = std::min<uint64_t>(disk.size(), 16 * kMiB);
  for (uint64_t at = 0; at < end;) {
    Result<ExtentList> extents = run_inline(disk.image->map(at, end - at));
    if (!extents) break;
    REQUIRE(extents->front().guest_offset == at);
    for (const Extent& extent : *extents) {
      REQUIRE(extent.guest_offset == at);
      REQUIRE(extent.length > 0);
      at = extent.guest_end();
      std::vector<std::byte> buffer(std::min<uint64_t>(extent.length, 4096));
      Extent head = extent;
      head.length = buffer.size();
      const Result<void> read = read_extents({&head, 1}, buffer, FileEnd::kZeros);
      if (!read) REQUIRE(read.error().code() > 0);
    }
  }
  if (run_inline(disk.image->load_snapshot("snap"))) {
    const Result<ExtentList> extents = run_inline(disk.image->map(0, 512));
    if (!extents) REQUIRE(extents.error().code() > 0);
  }
}

}  // namespace

TEST_CASE("Qcow2Image: an image cut at any length opens or is refused", "[formats][qcow2]") {
  const bool is_extended = GENERATE(false, true);
  const std::vector<std::byte> bytes = reference_image(is_extended);
  const size_t step = is_extended ? 509 : 1;
  for (size_t length = 0; length < bytes.size(); length += step) {
    exercise(std::span(bytes).first(length));
  }
}

TEST_CASE("Qcow2Image: any header byte may be wrong", "[formats][qcow2]") {
  const bool is_extended = GENERATE(false, true);
  const std::vector<std::byte> bytes = reference_image(is_extended);
  for (size_t at = 0; at < 160; ++at) {
    for (const unsigned flip : {0x01u, 0x10u, 0x80u, 0xffu}) {
      std::vector<std::byte> damaged = bytes;
      damaged[at] ^= static_cast<std::byte>(flip);
      exercise(damaged);
    }
  }
}

TEST_CASE("Qcow2Image: any metadata byte may be wrong", "[formats][qcow2]") {
  const std::vector<std::byte> bytes = reference_image(false);
  for (size_t at = 160; at < bytes.size(); at += 3) {
    std::vector<std::byte> damaged = bytes;
    damaged[at] ^= std::byte{0xff};
    exercise(damaged);
  }
}

TEST_CASE("Qcow2Image: writing to a damaged image fails or works, but ends", "[formats][qcow2]") {
  const std::vector<std::byte> bytes = reference_image(false);
  for (size_t at = 0; at < bytes.size(); at += 5) {
    Qcow2Disk disk;
    std::vector<std::byte> damaged = bytes;
    damaged[at] ^= std::byte{0x82};
    disk.storage.add(Qcow2Disk::kName, damaged);
    if (!disk.try_open(true)) continue;
    const uint64_t end = std::min<uint64_t>(disk.size(), 6 * kKiB);
    for (uint64_t guest_offset = 0; guest_offset + 700 <= end; guest_offset += 700) {
      const Result<void> written = disk.try_write(guest_offset, pattern(guest_offset, 700));
      if (!written) REQUIRE(written.error().code() > 0);
    }
    const Result<void> closed = run_inline(disk.image->close());
    if (!closed) REQUIRE(closed.error().code() > 0);
  }
}

}  // namespace imgconv::test
