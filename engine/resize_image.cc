#include "engine/resize_image.h"

#include <fmt/format.h>

#include <cerrno>
#include <limits>

#include "loop/try.h"

namespace imgconv {

Result<uint64_t> apply_size_change(uint64_t current_size, const SizeChange& change) {
  uint64_t size = change.bytes;
  if (change.kind == SizeChange::Kind::kGrow) size = current_size + change.bytes;
  if (change.kind == SizeChange::Kind::kShrink) size = current_size - change.bytes;
  if (size == 0 || size > uint64_t{std::numeric_limits<int64_t>::max()}) {
    return Error(EINVAL, "New image size must be positive");
  }
  return size;
}

Task<Result<void>> resize_image(ImageChain& chain, uint64_t size, Preallocation preallocation) {
  if (size > kMaxDiskSize) {
    co_return Error(EINVAL, fmt::format("offset({}) exceeds maximum({})", size, kMaxDiskSize));
  }
  ResizeRequest request;
  request.virtual_size = size;
  request.preallocation = preallocation;
  if (chain.layers().size() > 1)
    request.backing_size = chain.layers()[1].image->info().virtual_size;
  CO_RETURN_IF_ERROR(co_await chain.top().resize(request));
  co_return ok();
}

}  // namespace imgconv
