// BitmapStore: the persistent dirty bitmaps of one open image: which guest ranges were written
// since somebody asked to record it. What the engine needs for `bitmap` and `convert --bitmaps`.
//
// Changes are in memory until the image is closed, and then become valid together. Bitmaps are
// named by their place in list(), which remove() moves. Owned by the image. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

struct PersistentBitmap {
  std::string name;
  uint64_t granularity = 0;  ///< Guest bytes per bit, a power of two.
  /// Records what is written to the image.
  bool is_enabled = false;
  /// A writer died before it stored the bitmap: all that is left is to remove it.
  bool is_inconsistent = false;
};

struct GuestRange {
  uint64_t begin = 0;
  uint64_t end = 0;
};

/// "Bitmap 'x' is inconsistent and cannot be used", with a hint.
Result<void> check_consistent(const PersistentBitmap& bitmap);

class BitmapStore {
 public:
  virtual ~BitmapStore() = default;

  /// In the order in which the image lists them.
  virtual std::vector<PersistentBitmap> list() const = 0;
  /// False: this image can never hold one, though its format can.
  virtual bool can_hold_bitmaps() const = 0;
  virtual uint64_t default_granularity() const = 0;
  /// Can one more with this name and granularity be stored? The reason without the image's name.
  virtual Result<void> check_new(const std::string& name, uint64_t granularity) const = 0;

  /// A dirty bitmap's ranges at and behind `guest_offset`, ascending, whole bits but for the end of
  /// the disk; a few thousand at a time. Empty: there are no more. Requires: it is consistent.
  virtual Task<Result<std::vector<GuestRange>>> dirty_ranges(size_t index,
                                                             uint64_t guest_offset) = 0;

  // ---- Changing. Requires: the image was opened writable. ----

  /// A clean bitmap at the end of the list. Requires: check_new() and a name that is not taken.
  virtual Task<Result<void>> add(PersistentBitmap bitmap) = 0;
  virtual Task<Result<void>> remove(size_t index) = 0;
  /// Requires, here and below: it is consistent.
  virtual Task<Result<void>> clear(size_t index) = 0;
  virtual Task<Result<void>> set_enabled(size_t index, bool is_enabled) = 0;
  /// The ranges are dirty from now on. `ranges` must outlive the task.
  virtual Task<Result<void>> mark(size_t index, const std::vector<GuestRange>& ranges) = 0;
};

}  // namespace imgconv
