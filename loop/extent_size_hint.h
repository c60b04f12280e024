// extent_size_hint(): in which units a file system was asked to allocate a file (XFS's extsize).
//
// QEMU asks for 1 MiB when it creates an image, and `info` shows it. Any thread.
#pragma once

#include <cstdint>

namespace imgconv {

/// Bytes; 0 if nobody asked, or the file system knows no such hint.
uint32_t extent_size_hint(int descriptor);

}  // namespace imgconv
