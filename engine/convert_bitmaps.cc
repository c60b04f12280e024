#include "engine/convert_bitmaps.h"

#include <fmt/format.h>

#include <cerrno>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/bitmap.h"
#include "formats/bitmap_store.h"
#include "loop/try.h"

namespace imgconv {
namespace {

Error unsupported(std::string_view format) {
  return Error(ENOTSUP, fmt::format("Format driver '{}' does not support bitmaps", format));
}

Task<Result<void>> copy_bitmap(Image& source, const PersistentBitmap& bitmap, Image& target,
                               const std::string& target_name) {
  Result<void> added = co_await add_bitmap(target, bitmap, target_name);
  if (!added) {
    co_return std::move(added).error().within(
        fmt::format("Failed to create bitmap {}", bitmap.name));
  }
  Result<void> merged = co_await merge_bitmap(target, bitmap.name, source, bitmap.name);
  if (merged) co_return ok();
  CO_ASSIGN_OR_RETURN(const size_t index, find_bitmap(target, bitmap.name));
  CO_RETURN_IF_ERROR(co_await target.bitmaps()->remove(index));
  co_return std::move(merged).error().within(
      fmt::format("Failed to populate bitmap {}", bitmap.name));
}

}  // namespace

Result<void> check_source_bitmaps(const ConcatSource& source, const ConvertOptions& options) {
  if (source.parts().size() > 1) {
    return Error(EINVAL, "Copying bitmaps only possible with single source");
  }
  const BitmapStore* const store = source.parts().front().chain->top().bitmaps();
  if (store == nullptr || !store->can_hold_bitmaps()) {
    return Error(ENOTSUP, "Source lacks bitmap support");
  }
  // From the last on, as qemu-img goes through them.
  const std::vector<PersistentBitmap> bitmaps = store->list();
  for (const PersistentBitmap& bitmap : bitmaps | std::views::reverse) {
    if (!bitmap.is_inconsistent || options.skip_broken_bitmaps) continue;
    return Error(EINVAL, fmt::format("Cannot copy inconsistent bitmap '{}'", bitmap.name))
        .with_hint("Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it");
  }
  return ok();
}

Result<void> check_created_bitmaps(const PreparedTarget& target) {
  if (!target.create) return ok();
  const BlockDriver& driver = *target.create->driver;
  if (!driver.supports_bitmaps(target.create->options.options)) return unsupported(driver.name());
  return ok();
}

Result<void> check_target_bitmaps(Image& target) {
  const BitmapStore* const store = target.bitmaps();
  if (store == nullptr || !store->can_hold_bitmaps()) return unsupported(target.info().format);
  return ok();
}

Task<Result<void>> copy_bitmaps(Image& source, Image& target, const ConvertOptions& options,
                                Messages& messages) {
  const std::vector<PersistentBitmap> bitmaps = source.bitmaps()->list();
  for (const PersistentBitmap& bitmap : bitmaps | std::views::reverse) {
    if (!bitmap.is_inconsistent) continue;
    messages.warning(fmt::format("Skipping inconsistent bitmap '{}'", bitmap.name));
  }
  // All of them are looked at before the first is made.
  for (const PersistentBitmap& bitmap : bitmaps | std::views::reverse) {
    if (!bitmap.is_inconsistent && find_bitmap(target, bitmap.name)) {
      co_return Error(EEXIST, fmt::format("Failed to create bitmap {0}: Bitmap already exists: {0}",
                                          bitmap.name));
    }
  }
  for (const PersistentBitmap& bitmap : bitmaps) {
    if (bitmap.is_inconsistent) continue;
    CO_RETURN_IF_ERROR(co_await copy_bitmap(source, bitmap, target, options.target));
  }
  co_return ok();
}

}  // namespace imgconv
