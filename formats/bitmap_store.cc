#include "formats/bitmap_store.h"

#include <fmt/format.h>

#include <cerrno>

namespace imgconv {

Result<void> check_consistent(const PersistentBitmap& bitmap) {
  if (!bitmap.is_inconsistent) return ok();
  return Error(EINVAL, fmt::format("Bitmap '{}' is inconsistent and cannot be used", bitmap.name))
      .with_hint("Try block-dirty-bitmap-remove to delete this bitmap from disk");
}

}  // namespace imgconv
