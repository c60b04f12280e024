// The directory of persistent bitmaps (QCOW2.md 9): its entries as checked values, read and
// written. The bitmaps' contents are BitmapContent's. Values; read_bitmap_directory() on the loop
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/qcow2/header.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

struct BitmapInfo {
  std::string name;
  uint64_t granularity = 0;  ///< Guest bytes per bit.
  bool is_in_use = false;
  bool is_auto = false;
  HostOffset table_offset;
  uint32_t table_entries = 0;
};

/// Parses the whole directory. "Broken bitmap directory", "More bitmaps found than specified in
/// header extension", "Bitmap 'x' doesn't satisfy the constraints", "Bitmap already exists: x".
Result<std::vector<BitmapInfo>> parse_bitmap_directory(std::span<const std::byte> directory,
                                                       const Header& header);

/// The bytes of a directory that has these entries.
std::vector<std::byte> serialize_bitmap_directory(std::span<const BitmapInfo> bitmaps);
uint64_t bitmap_directory_size(std::span<const BitmapInfo> bitmaps);

/// Can the image have a bitmap of this name and granularity? "Granularity exceeds maximum ...",
/// "Too much space will be occupied by the bitmap. Use larger granularity", "Name length ...".
/// Requires: the granularity is a power of two.
Result<void> check_bitmap_constraints(const BitmapInfo& bitmap, const Header& header);

/// Empty when the image has no bitmaps.
Task<Result<std::vector<BitmapInfo>>> read_bitmap_directory(File& file, const Header& header);

}  // namespace imgconv::qcow2
