// The byte-range locks by which QEMU's tools and virtual machines agree on who uses an image.
//
// Locks of the open file description (F_OFD_SETLK): held until the descriptor is closed, never in
// conflict with themselves, invisible to the file's content. All are shared locks on single bytes;
// a conflict is found by probing, so the order "take, then probe" decides a race in favour of
// safety: both may fail, both never succeed. On a file system without such locks only this process
// is kept from harming itself. Any thread; borrows the descriptor.
#pragma once

#include <cstdint>
#include <string>

#include "loop/result.h"

namespace imgconv {

/// What a holder does with the file, in the words of QEMU's permissions: CLI.md 1.7 gives the
/// bytes. A raw image minds less than other formats, since nothing in it but the guest's bytes can
/// change.
enum class LockMode : uint8_t {
  kNone,        ///< Takes no part: looks at attributes, or was told to (locking=off).
  kForceShare,  ///< Reads, minds nothing: -U, and every reader of a raw image.
  kDescribe,    ///< Does not read the guest's data; others may neither write nor resize.
  kRead,        ///< Reads; others may neither write nor resize.
  kReadData,    ///< Reads an external data file: others may not resize.
  kCreate,      ///< Will write and resize; others may not resize. Held before the first truncation.
  kWrite,       ///< Reads, writes, resizes; others may neither write nor resize.
  kWriteData,   ///< As kWrite of an external data file: others may write, not resize.
  kWriteShared,   ///< Writes into a raw image as it is: others may do the same.
  kResizeShared,  ///< As kWriteShared, and may change its length.
};

/// Adds the locks of `mode` to those the descriptor holds. On conflict: EAGAIN with QEMU's text
/// (`Failed to get "write" lock`) and the hint "Is another process using the image [NAME]?", then,
/// where it can be found, who that is (lock_holder.h).
Result<void> lock_image_file(int descriptor, const std::string& name, LockMode mode);

}  // namespace imgconv
