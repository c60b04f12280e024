// ImageLimits: what an image from a stranger may ask of us (--untrusted). Such an image also names
// no other file. The defaults are those of cmd/README.md, "Untrusted images"; they are far above
// what images for clouds have and far below what hurts. A value; any thread.
#pragma once

#include <cstdint>

#include "loop/units.h"

namespace imgconv {

struct ImageLimits {
  uint64_t virtual_size = kTiB;
  /// Of the active L1 table and of each snapshot's.
  uint64_t l1_bytes = kMiB;
  uint64_t refcount_table_bytes = kMiB;
  uint64_t snapshots = 16;
  uint64_t bitmaps = 16;
  /// Header extensions that are not known here, all together.
  uint64_t extension_bytes = 64 * kKiB;
  /// Pieces in which the disk is stored; bounds the time that walking over it takes.
  uint64_t extents = kMiB;
  /// Data of the disk for each byte of the file, where there is more of it than
  /// kHarmlessDataBytes: an entry costs eight bytes and can stand for 2 MiB.
  uint64_t expansion = 100;
};

inline constexpr uint64_t kHarmlessDataBytes = kGiB;

}  // namespace imgconv
