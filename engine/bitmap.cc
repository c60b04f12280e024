#include "engine/bitmap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// find_bitmap() for who wants to use its bits.
Result<size_t> find_consistent(Image& image, const std::string& name) {
  ASSIGN_OR_RETURN(const size_t index, find_bitmap(image, name));
  RETURN_IF_ERROR(check_consistent(image.bitmaps()->list()[index]));
  return index;
}

const char* verb_of(BitmapAction::Kind kind) {
  switch (kind) {
    case BitmapAction::Kind::kAdd:
      return "add";
    case BitmapAction::Kind::kRemove:
      return "remove";
    case BitmapAction::Kind::kClear:
      return "clear";
    case BitmapAction::Kind::kEnable:
      return "enable";
    case BitmapAction::Kind::kDisable:
      return "disable";
    case BitmapAction::Kind::kMerge:
      break;
  }
  return "merge";
}

Task<Result<void>> perform(const BitmapAction& action, const BitmapRequest& request, Image& image,
                           Image& merge_source) {
  switch (action.kind) {
    case BitmapAction::Kind::kAdd: {
      PersistentBitmap added;
      added.name = request.name;
      added.granularity = request.granularity;
      added.is_enabled = true;
      co_return co_await add_bitmap(image, std::move(added), request.image.name);
    }
    case BitmapAction::Kind::kMerge:
      co_return co_await merge_bitmap(image, request.name, merge_source, action.source);
    case BitmapAction::Kind::kRemove: {
      CO_ASSIGN_OR_RETURN(const size_t index, find_bitmap(image, request.name));
      co_return co_await image.bitmaps()->remove(index);
    }
    case BitmapAction::Kind::kClear: {
      CO_ASSIGN_OR_RETURN(const size_t index, find_consistent(image, request.name));
      co_return co_await image.bitmaps()->clear(index);
    }
    case BitmapAction::Kind::kEnable:
    case BitmapAction::Kind::kDisable: {
      CO_ASSIGN_OR_RETURN(const size_t index, find_consistent(image, request.name));
      const bool is_enabled = action.kind == BitmapAction::Kind::kEnable;
      co_return co_await image.bitmaps()->set_enabled(index, is_enabled);
    }
  }
  co_return ok();
}

Task<Result<void>> perform_all(const BitmapRequest& request, Image& image, Image& merge_source) {
  for (const BitmapAction& action : request.actions) {
    Result<void> done = co_await perform(action, request, image, merge_source);
    if (!done) {
      co_return std::move(done).error().within(
          fmt::format("Operation {} on bitmap {} failed", verb_of(action.kind), request.name));
    }
  }
  co_return ok();
}

}  // namespace

Result<size_t> find_bitmap(Image& image, const std::string& name) {
  if (BitmapStore* const store = image.bitmaps()) {
    const std::vector<PersistentBitmap> bitmaps = store->list();
    const auto found = std::ranges::find(bitmaps, name, &PersistentBitmap::name);
    if (found != bitmaps.end()) return static_cast<size_t>(found - bitmaps.begin());
  }
  return Error(ENOENT, fmt::format("Dirty bitmap '{}' not found", name));
}

Task<Result<void>> add_bitmap(Image& image, PersistentBitmap bitmap,
                              const std::string& image_name) {
  constexpr uint64_t kLargestGranularity = uint64_t{1} << 31;
  if (bitmap.name.empty()) co_return Error(EINVAL, "Bitmap name cannot be empty");
  BitmapStore* const store = image.bitmaps();
  if (bitmap.granularity == 0 && store != nullptr) {
    bitmap.granularity = store->default_granularity();
  }
  const bool is_valid = bitmap.granularity >= kSectorSize &&
                        bitmap.granularity <= kLargestGranularity &&
                        is_power_of_two(bitmap.granularity);
  if (!is_valid && bitmap.granularity != 0) {
    co_return Error(EINVAL, "Granularity must be power of 2 and at least 512");
  }
  if (store == nullptr) {
    co_return Error::from_errno(ENOTSUP,
                                fmt::format("Can't store persistent bitmaps to {}", image_name));
  }
  Result<void> possible = store->check_new(bitmap.name, bitmap.granularity);
  if (!possible) {
    co_return std::move(possible).error().within(
        fmt::format("Can't make bitmap '{}' persistent in '{}'", bitmap.name, image_name));
  }
  if (find_bitmap(image, bitmap.name)) {
    co_return Error(EEXIST, fmt::format("Bitmap already exists: {}", bitmap.name));
  }
  co_return co_await store->add(std::move(bitmap));
}

Task<Result<void>> merge_bitmap(Image& target, const std::string& name, Image& source,
                                const std::string& source_name) {
  CO_ASSIGN_OR_RETURN(const size_t target_index, find_bitmap(target, name));
  CO_ASSIGN_OR_RETURN(const size_t source_index, find_consistent(source, source_name));
  const uint64_t target_size = target.info().virtual_size;
  const uint64_t source_size = source.info().virtual_size;
  if (target_size != source_size) {
    co_return Error(EINVAL, fmt::format("Bitmaps are of different sizes (destination size is {}, "
                                        "source size is {}) and can't be merged",
                                        target_size, source_size));
  }
  CO_RETURN_IF_ERROR(check_consistent(target.bitmaps()->list()[target_index]));
  for (uint64_t offset = 0;;) {
    CO_ASSIGN_OR_RETURN(const std::vector<GuestRange> ranges,
                        co_await source.bitmaps()->dirty_ranges(source_index, offset));
    if (ranges.empty()) co_return ok();
    CO_RETURN_IF_ERROR(co_await target.bitmaps()->mark(target_index, ranges));
    offset = ranges.back().end;
  }
}

Task<Result<void>> change_bitmap(Storage& storage, const BitmapRequest& request,
                                 Messages& messages) {
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                      co_await open_image(storage, request.image, messages));
  std::unique_ptr<ImageChain> source;
  Result<void> done;
  if (request.source) {
    Result<std::unique_ptr<ImageChain>> opened =
        co_await open_image(storage, *request.source, messages);
    if (opened) {
      source = std::move(*opened);
    } else {
      done = std::move(opened).error();
    }
  }
  if (done) {
    done = co_await perform_all(request, chain->top(), source ? source->top() : chain->top());
  }
  // Also after a failure: what was done before it stays.
  Result<void> closed = co_await chain->close();
  if (!done) co_return done;
  if (!closed) co_return std::move(closed).error().within("Error while closing the image");
  if (source) CO_RETURN_IF_ERROR(co_await source->close());
  co_return ok();
}

}  // namespace imgconv
