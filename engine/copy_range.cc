#include "engine/copy_range.h"

#include <unistd.h>

#include "loop/file.h"

namespace imgconv {
namespace {

bool copy_bytes(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length) {
  off64_t in = static_cast<off64_t>(from_offset);
  off64_t out = static_cast<off64_t>(to_offset);
  while (length > 0) {
    const ssize_t moved = copy_file_range(from, &in, to, &out, length, 0);
    // Zero is the end of the source, behind which zeros are due: not the kernel's work.
    if (moved <= 0) return false;
    length -= static_cast<uint64_t>(moved);
  }
  return true;
}

}  // namespace

bool copy_extents(std::span<const Extent> extents, BlockingFile& target, uint64_t host_base) {
  const int to = target.descriptor();
  if (to < 0) return false;
  for (const Extent& extent : extents) {
    if (extent.kind != ExtentKind::kData || extent.file == nullptr) return false;
    const int from = extent.file->blocking().descriptor();
    if (from < 0) return false;
    const uint64_t host_offset = host_base + extent.guest_offset;
    if (!copy_bytes(from, extent.host_offset, to, host_offset, extent.length)) return false;
  }
  return true;
}

}  // namespace imgconv
