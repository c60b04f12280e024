// ImageLimits of a qcow2 image: checked when the header is known and before anything is read that
// the header leads to. Pure functions, any thread.
#pragma once

#include <span>

#include "formats/image_limits.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot.h"
#include "loop/result.h"

namespace imgconv::qcow2 {

/// EPERM for another file that the image names, EFBIG for a table or a file beyond its limit.
Result<void> check_limits(const Header& header, uint64_t file_length, const ImageLimits& limits);
/// The same for what the snapshot table leads to.
Result<void> check_limits(std::span<const Snapshot> snapshots, const ImageLimits& limits);

}  // namespace imgconv::qcow2
