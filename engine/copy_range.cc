#include "engine/copy_range.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "loop/file.h"
#include "loop/units.h"

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

// Every file system that can share wants at least this; one that wants more says EINVAL.
constexpr uint64_t kCloneAlignment = 4 * kKiB;

bool can_be_cloned(const Extent& extent, uint64_t target_offset) {
  return extent.kind == ExtentKind::kData && extent.file != nullptr &&
         is_aligned(extent.host_offset | extent.length | target_offset, kCloneAlignment);
}

}  // namespace

bool can_be_cloned(std::span<const Extent> extents, uint64_t host_base) {
  return std::all_of(extents.begin(), extents.end(), [host_base](const Extent& extent) {
    return can_be_cloned(extent, host_base + extent.guest_offset);
  });
}

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

CloneOutcome clone_extents(std::span<const Extent> extents, BlockingFile& target,
                           uint64_t host_base) {
  if (target.descriptor() < 0) return CloneOutcome::kNever;
  if (!can_be_cloned(extents, host_base)) return CloneOutcome::kNotThese;
  for (const Extent& extent : extents) {
    file_clone_range range{};
    range.src_fd = extent.file->blocking().descriptor();
    range.src_offset = extent.host_offset;
    range.src_length = extent.length;
    range.dest_offset = host_base + extent.guest_offset;
    if (range.src_fd >= 0 && ::ioctl(target.descriptor(), FICLONERANGE, &range) == 0) continue;
    // Also what an unfinished last cluster gets.
    return errno == EINVAL ? CloneOutcome::kNotThese : CloneOutcome::kNever;
  }
  return CloneOutcome::kCloned;
}

}  // namespace imgconv
