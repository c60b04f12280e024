// FilePart: a part of a file as a file of its own, for an image that begins inside another file (a
// node of the driver "raw" with `offset` or `size` below a format; CLI.md 1.4).
//
// Without a size it reaches to the end of the file and grows with it. With one, nothing grows: a
// write past its end fails with ENOSPC, as on a full device. Owns the file. Threads as in File.
#pragma once

#include <memory>

#include "formats/raw_image.h"
#include "loop/file.h"

namespace imgconv {

/// The part of `file` that `window` says.
std::unique_ptr<File> part_of_file(std::unique_ptr<File> file, const RawWindow& window);

}  // namespace imgconv
