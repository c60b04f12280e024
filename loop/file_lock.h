// The byte-range locks by which QEMU's tools and virtual machines agree on who uses an image.
//
// Locks of the open file description (F_OFD_SETLK): held until the descriptor is closed, never in
// conflict with themselves, invisible to the file's content. All are shared locks on single bytes;
// a conflict is found by probing, so the order "take, then probe" decides a race in favour of
// safety: both may fail, both never succeed. File systems without such locks are let through.
// Any thread; borrows the descriptor.
#pragma once

#include <cstdint>
#include <string>

#include "loop/result.h"

namespace imgconv {

/// What a holder does with the file. CLI.md 1.7 gives the bytes.
enum class LockIntent : uint8_t {
  kShareAll,  ///< Reads, minds nothing.
  kRead,      ///< Reads; others may neither write nor resize.
  kCreate,    ///< Will write and resize; others may not resize. Held before the first truncation.
  kWrite,     ///< Reads, writes, resizes; others may neither write nor resize.
};

/// Adds the locks of `intent` to those the descriptor holds. On conflict: EAGAIN with QEMU's text
/// (`Failed to get "write" lock`) and the hint "Is another process using the image [NAME]?".
Result<void> lock_image_file(int descriptor, const std::string& name, LockIntent intent);

}  // namespace imgconv
