// The directory of persistent bitmaps as `info` shows it (QCOW2.md 9). Reading only; the bitmaps'
// contents are not touched. Loop thread only.
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
/// header extension", "Bitmap 'x' doesn't satisfy the constraints".
Result<std::vector<BitmapInfo>> parse_bitmap_directory(std::span<const std::byte> directory,
                                                       const Header& header);

/// Empty when the image has no bitmaps.
Task<Result<std::vector<BitmapInfo>>> read_bitmap_directory(File& file, const Header& header);

}  // namespace imgconv::qcow2
