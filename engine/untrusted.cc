#include "engine/untrusted.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "engine/open_image.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {

Result<void> check_untrusted_request(const ImageRequest& request) {
  if (request.format.empty()) {
    return Error(EINVAL, "--untrusted needs the format of the image, which is then not probed");
  }
  if (request.image_opts || request.name.starts_with("json:")) {
    return Error(EINVAL, "--untrusted needs a plain file name");
  }
  return ok();
}

Task<Result<void>> check_untrusted_disk(ImageChain& chain, ImageLimits limits) {
  const uint64_t size = chain.virtual_size();
  if (size > limits.virtual_size) {
    co_return Error(EFBIG, fmt::format("The virtual size is {}, more than an untrusted image may "
                                       "have (--limit virtual-size={})",
                                       size, limits.virtual_size));
  }
  CO_ASSIGN_OR_RETURN(const FileStat stat, chain.top().file().stat());
  const uint64_t max_data = std::max(
      kHarmlessDataBytes, checked_mul(stat.length, limits.expansion).value_or(kMaxDiskSize));
  uint64_t data = 0;
  uint64_t pieces = 0;
  for (uint64_t at = 0; at < size;) {
    CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> extents, co_await chain.map(at, size - at));
    for (const ChainExtent& one : extents) {
      const ExtentKind kind = one.extent.kind;
      const bool is_data = kind == ExtentKind::kData || kind == ExtentKind::kCompressed;
      if (is_data) data += one.extent.length;
    }
    pieces += extents.size();
    at = extents.back().extent.guest_end();
    if (data > max_data) {
      co_return Error(
          EFBIG,
          fmt::format("The image expands to more than {} bytes of data, {} for each "
                      "byte of its file (--limit expansion={})",
                      max_data, max_data / std::max<uint64_t>(stat.length, 1), limits.expansion));
    }
    if (pieces > limits.extents) {
      co_return Error(EFBIG, fmt::format("The disk is stored in more than {} pieces (--limit "
                                         "extents={})",
                                         limits.extents, limits.extents));
    }
  }
  co_return ok();
}

}  // namespace imgconv
