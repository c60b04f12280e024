#include "formats/qcow2/metadata_ranges.h"

#include <algorithm>

#include "loop/units.h"

namespace imgconv::qcow2 {

void MetadataRanges::add(HostOffset offset, uint64_t size, std::string_view name) {
  const std::optional<uint64_t> end = checked_add(offset.bytes(), size);
  if (size != 0 && end) ranges_.push_back({offset.bytes(), *end, name});
}

bool MetadataRanges::add_next(HostOffset offset, uint64_t size, size_t max_ranges) {
  if (!ranges_.empty() && ranges_.back().end == offset.bytes()) {
    const std::optional<uint64_t> end = checked_add(offset.bytes(), size);
    if (end) ranges_.back().end = *end;
    return true;
  }
  if (ranges_.size() == max_ranges) return false;
  add(offset, size, "");
  return true;
}

void MetadataRanges::sort() {
  std::ranges::stable_sort(ranges_, {}, &Range::begin);
  std::vector<Range> merged;
  for (const Range& range : ranges_) {
    if (!merged.empty() && range.begin < merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  ranges_ = std::move(merged);
}

const MetadataRanges::Range* MetadataRanges::find_range(HostOffset offset, uint64_t size) const {
  const uint64_t begin = offset.bytes();
  const auto next = std::ranges::upper_bound(ranges_, begin, {}, &Range::begin);
  if (next != ranges_.begin() && std::prev(next)->end > begin) return &*std::prev(next);
  if (next != ranges_.end() && next->begin - begin < size) return &*next;
  return nullptr;
}

std::optional<std::string_view> MetadataRanges::find(HostOffset offset, uint64_t size) const {
  const Range* const range = find_range(offset, size);
  if (range == nullptr) return std::nullopt;
  return range->name;
}

std::optional<uint64_t> MetadataRanges::find_end(HostOffset offset, uint64_t size) const {
  const Range* const range = find_range(offset, size);
  if (range == nullptr) return std::nullopt;
  return range->end;
}

}  // namespace imgconv::qcow2
