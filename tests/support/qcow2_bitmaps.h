// Persistent bitmaps of qcow2 images, made and read by hand (QCOW2.md 9), without any code of
// formats/: add_bitmaps() for images of the Qcow2Builder, read_bitmaps() for what a writer left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

inline constexpr uint32_t kBitmapInUse = 1;
inline constexpr uint32_t kBitmapAuto = 2;

/// One cluster of bits: `bytes` padded with zeros, or without bytes the table entry as it is.
struct BitmapClusterSpec {
  std::vector<std::byte> bytes;
  uint64_t raw_entry = 0;
};

struct BitmapSpec {
  std::string name = "b0";
  uint32_t flags = 0;
  uint8_t granularity_bits = 16;
  std::vector<BitmapClusterSpec> clusters;
};

/// Puts the bitmaps behind what the builder has so far: last, but before other lies.
void add_bitmaps(Qcow2Builder& builder, const std::vector<BitmapSpec>& bitmaps);

struct StoredBitmap {
  std::string name;
  uint32_t flags = 0;
  unsigned granularity_bits = 0;
  /// Dirty bits, ascending; nothing for a bitmap in use.
  std::vector<uint64_t> dirty;

  bool operator==(const StoredBitmap&) const = default;
};

/// Nothing when the image says that it has no valid bitmaps. Ends the test when the directory is
/// not as the header says.
std::optional<std::vector<StoredBitmap>> read_bitmaps(std::span<const std::byte> image);

}  // namespace imgconv::test
