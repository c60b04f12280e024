// bitmap: changes one persistent bitmap of an image, and the merge that `convert --bitmaps` shares
// with it. Error texts are complete, without program name (CLI.md 11). Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/messages.h"
#include "engine/open_image.h"
#include "formats/bitmap_store.h"
#include "formats/image.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct BitmapAction {
  enum class Kind : uint8_t { kAdd, kRemove, kClear, kEnable, kDisable, kMerge };
  Kind kind = Kind::kAdd;
  /// kMerge: the bitmap whose dirty ranges are added.
  std::string source;
};

struct BitmapRequest {
  ImageRequest image;
  /// Where kMerge finds its bitmaps, when that is another image.
  std::optional<ImageRequest> source;
  std::string name;
  uint64_t granularity = 0;  ///< For kAdd; 0: the image's default.
  /// Done one after the other; the first that fails ends it, and what was done before stays.
  std::vector<BitmapAction> actions;
};

/// Arguments must outlive the task, here and below.
Task<Result<void>> change_bitmap(Storage& storage, const BitmapRequest& request,
                                 Messages& messages);

/// The place of the bitmap in the image's list: "Dirty bitmap 'x' not found".
Result<size_t> find_bitmap(Image& image, const std::string& name);

/// A clean bitmap at the end of the image's list. `image_name` is for messages.
Task<Result<void>> add_bitmap(Image& image, PersistentBitmap bitmap, const std::string& image_name);

/// What is dirty in `source` becomes dirty in `target` too. Both may be the same image.
Task<Result<void>> merge_bitmap(Image& target, const std::string& name, Image& source,
                                const std::string& source_name);

}  // namespace imgconv
