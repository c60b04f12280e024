#include "engine/concat_source.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <limits>

#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// qemu-img ends status runs at multiples of the source's cluster or request size, to spare reads
/// of half clusters; the runs decide on holes, so we must too.
uint64_t status_alignment(ImageChain& chain) {
  uint64_t alignment = kSectorSize;
  if (const Result<FileStat> stat = chain.top().file().stat()) {
    alignment = std::max(alignment, round_up(stat->request_alignment, kSectorSize));
  }
  return std::max(alignment, chain.top().info().cluster_size.value_or(0));
}

}  // namespace

Result<ConcatSource> ConcatSource::make(std::vector<std::unique_ptr<ImageChain>> chains) {
  ConcatSource source;
  for (std::unique_ptr<ImageChain>& chain : chains) {
    const uint64_t length = chain->virtual_size();
    const std::optional<uint64_t> end = checked_add(source.virtual_size_, length);
    if (!end || *end > uint64_t{std::numeric_limits<int64_t>::max()}) {
      return Error(EFBIG, "The source images together are too large");
    }
    const uint64_t alignment = status_alignment(*chain);
    source.parts_.push_back({std::move(chain), source.virtual_size_, length, alignment});
    source.virtual_size_ = *end;
  }
  return source;
}

const ConcatSource::Part& ConcatSource::part_at(uint64_t guest_offset) const {
  assert(guest_offset < virtual_size_);
  const auto after = std::partition_point(
      parts_.begin(), parts_.end(),
      [guest_offset](const Part& part) { return part.guest_end() <= guest_offset; });
  return *after;
}

bool ConcatSource::prefers_async() const {
  for (const Part& part : parts_) {
    for (const Layer& layer : part.chain->layers()) {
      if (layer.image->file().prefers_async()) return true;
    }
  }
  return false;
}

Task<Result<std::vector<ChainExtent>>> ConcatSource::map(uint64_t guest_offset, uint64_t length,
                                                         unsigned max_depth) const {
  const Part& part = part_at(guest_offset);
  const uint64_t mapped = std::min(length, part.guest_end() - guest_offset);
  const uint64_t begin = guest_offset - part.guest_offset;
  CO_ASSIGN_OR_RETURN(std::vector<ChainExtent> extents,
                      co_await part.chain->map(begin, mapped, max_depth));
  for (ChainExtent& found : extents) found.extent.guest_offset += part.guest_offset;
  co_return extents;
}

}  // namespace imgconv
