// What `info` prints of a qcow2 image: ImageInfo with its "Format specific information", made from
// the parsed header and tables. Pure, any thread.
#pragma once

#include <span>
#include <string>

#include "formats/image.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot.h"

namespace imgconv::qcow2 {

ImageInfo make_image_info(const Header& header, std::span<const Snapshot> snapshots,
                          std::span<const BitmapInfo> bitmaps);

}  // namespace imgconv::qcow2
