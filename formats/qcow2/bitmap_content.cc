#include "formats/qcow2/bitmap_content.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/bitmap_bits.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// Ours: 16 MiB of bits describe 8 TiB at a granularity of 64 KiB.
constexpr uint64_t kMaxLoadedBytes = 16 * kMiB;
constexpr size_t kMaxRanges = 4096;

}  // namespace

uint64_t BitmapGeometry::bits() const {
  return div_round_up(guest_size, uint64_t{1} << granularity_bits);
}

uint64_t BitmapGeometry::clusters() const {
  return clusters_for(div_round_up(bits(), 8), cluster_bits).value();
}

BitmapContent::BitmapContent(TableIo& io, BitmapGeometry geometry)
    : io_(io), geometry_(geometry), table_(geometry.clusters()), is_new_(geometry.clusters()) {}

Task<Result<void>> BitmapContent::load(HostOffset table_offset, uint32_t table_entries) {
  CO_ASSIGN_OR_RETURN(const FileStat stat, io_.file().stat());
  const uint64_t table_bytes = table_entries * kTableEntryBytes;
  // A table that is not in the file cannot be valid, so the file bounds what is allocated.
  if (table_bytes > stat.length) co_return Error::from_errno(EINVAL);
  CO_ASSIGN_OR_RETURN(
      table_, co_await read_bitmap_table(io_, table_offset, table_entries, geometry_.cluster_bits));
  is_new_.assign(table_entries, false);
  table_place_ = {table_offset.bytes() >> geometry_.cluster_bits,
                  clusters_for(table_bytes, geometry_.cluster_bits).value()};
  is_changed_ = false;
  co_return ok();
}

uint64_t BitmapContent::valid_bits(uint64_t index) const {
  const uint64_t first = index * geometry_.bits_per_cluster();
  return std::min(geometry_.bits() - first, geometry_.bits_per_cluster());
}

Task<Result<BitmapContent::Page*>> BitmapContent::page_of(uint64_t index) {
  const Pages::iterator found = pages_.find(index);
  if (found != pages_.end()) co_return &found->second;
  Page page;
  page.bytes.resize(size_t{1} << geometry_.cluster_bits);
  const BitmapTableEntry entry = table_[index];
  if (entry.is_all_ones()) std::ranges::fill(page.bytes, std::byte{0xff});
  if (entry.has_data()) {
    CO_RETURN_IF_ERROR(co_await io_.read_one(entry.offset().bytes(), page.bytes));
  }
  // What stands behind the end of the disk means nothing.
  clear_bits_from(page.bytes, valid_bits(index));
  co_return &pages_.emplace(index, std::move(page)).first->second;
}

Task<Result<void>> BitmapContent::set(GuestRange range, Allocator& allocator) {
  assert(range.begin < range.end && range.end <= geometry_.guest_size);
  const uint64_t per_cluster = geometry_.bits_per_cluster();
  uint64_t bit = range.begin >> geometry_.granularity_bits;
  const uint64_t end_bit = ((range.end - 1) >> geometry_.granularity_bits) + 1;
  while (bit < end_bit) {
    const uint64_t index = bit / per_cluster;
    const uint64_t end_in_cluster = std::min(end_bit - index * per_cluster, per_cluster);
    CO_ASSIGN_OR_RETURN(Page* const page, co_await page_of(index));
    if (set_bits(page->bytes, bit % per_cluster, end_in_cluster)) {
      page->is_dirty = true;
      is_changed_ = true;
    }
    bit = index * per_cluster + end_in_cluster;
    if (loaded_bytes() > kMaxLoadedBytes) {
      CO_RETURN_IF_ERROR(co_await spill(allocator));
    }
  }
  co_return ok();
}

void BitmapContent::clear() {
  for (uint64_t index = 0; index < table_.size(); ++index) release_cluster(index);
  pages_.clear();
  is_changed_ = true;
}

Task<Result<void>> BitmapContent::resize(uint64_t guest_size) {
  const uint64_t old_bits = geometry_.bits();
  geometry_.guest_size = guest_size;
  for (uint64_t index = geometry_.clusters(); index < table_.size(); ++index) {
    release_cluster(index);
    pages_.erase(index);
  }
  table_.resize(geometry_.clusters());
  is_new_.resize(table_.size());
  is_changed_ = true;
  // The last cluster of bits is cut, or goes on behind the old end, where anything may stand.
  const uint64_t end_bit = std::min(old_bits, geometry_.bits());
  const uint64_t index = end_bit / geometry_.bits_per_cluster();
  const uint64_t end_in_cluster = end_bit % geometry_.bits_per_cluster();
  const bool is_in_use =
      end_in_cluster != 0 && (pages_.contains(index) || !table_[index].is_all_zeros());
  if (!is_in_use) co_return ok();
  CO_ASSIGN_OR_RETURN(Page* const page, co_await page_of(index));
  clear_bits_from(page->bytes, end_in_cluster);
  page->is_dirty = true;
  co_return ok();
}

void BitmapContent::append_bits(uint64_t first_bit, uint64_t end_bit,
                                std::vector<GuestRange>& ranges) const {
  const unsigned shift = geometry_.granularity_bits;
  // The last bit may stand for less: the granularity need not divide the disk.
  const uint64_t end = end_bit == geometry_.bits() ? geometry_.guest_size : end_bit << shift;
  if (!ranges.empty() && ranges.back().end == first_bit << shift) {
    ranges.back().end = end;
  } else {
    ranges.push_back({first_bit << shift, end});
  }
}

void BitmapContent::append_dirty(uint64_t index, std::span<const std::byte> bytes,
                                 uint64_t first_bit, std::vector<GuestRange>& ranges) const {
  const uint64_t cluster_start = index * geometry_.bits_per_cluster();
  const uint64_t end = valid_bits(index);
  for (uint64_t bit = first_bit; bit < end && ranges.size() < kMaxRanges;) {
    const uint64_t first = find_bit(bytes, bit, end, true);
    if (first == end) return;
    bit = find_bit(bytes, first, end, false);
    append_bits(cluster_start + first, cluster_start + bit, ranges);
  }
}

Task<Result<std::vector<GuestRange>>> BitmapContent::dirty_ranges(uint64_t guest_offset) {
  std::vector<GuestRange> ranges;
  uint64_t bit = div_round_up(guest_offset, uint64_t{1} << geometry_.granularity_bits);
  std::vector<std::byte> bytes;
  while (bit < geometry_.bits() && ranges.size() < kMaxRanges) {
    const uint64_t index = bit / geometry_.bits_per_cluster();
    const uint64_t cluster_start = index * geometry_.bits_per_cluster();
    const BitmapTableEntry entry = table_[index];
    const Pages::const_iterator page = pages_.find(index);
    if (page != pages_.end()) {
      append_dirty(index, page->second.bytes, bit - cluster_start, ranges);
    } else if (entry.is_all_ones()) {
      append_bits(bit, cluster_start + valid_bits(index), ranges);
    } else if (entry.has_data()) {
      bytes.resize(size_t{1} << geometry_.cluster_bits);
      CO_RETURN_IF_ERROR(co_await io_.read_one(entry.offset().bytes(), bytes));
      append_dirty(index, bytes, bit - cluster_start, ranges);
    }
    bit = cluster_start + geometry_.bits_per_cluster();
  }
  co_return ranges;
}

void BitmapContent::release_cluster(uint64_t index) {
  const BitmapTableEntry entry = std::exchange(table_[index], BitmapTableEntry());
  is_new_[index] = false;
  if (!entry.has_data()) return;
  const uint64_t cluster = entry.offset().bytes() >> geometry_.cluster_bits;
  if (!released_.empty() && released_.back().end() == cluster) {
    ++released_.back().clusters;
  } else {
    released_.push_back({cluster, 1});
  }
}

void BitmapContent::release_table() {
  const HostClusters place = std::exchange(table_place_, HostClusters());
  if (place.clusters > 0) released_.push_back(place);
}

void BitmapContent::release_all() {
  clear();
  release_table();
}

std::vector<HostClusters> BitmapContent::take_released() { return std::exchange(released_, {}); }

Task<Result<void>> BitmapContent::spill_page(uint64_t index, Page& page, Allocator& allocator) {
  page.is_dirty = false;
  if (find_bit(page.bytes, 0, geometry_.bits_per_cluster(), true) == geometry_.bits_per_cluster()) {
    release_cluster(index);
    co_return ok();
  }
  if (!is_new_[index]) {
    CO_ASSIGN_OR_RETURN(const AllocatedClusters added, co_await allocator.allocate(1));
    release_cluster(index);
    table_[index] =
        BitmapTableEntry::data(HostOffset(added.clusters.first << geometry_.cluster_bits));
    is_new_[index] = true;
  }
  CO_RETURN_IF_ERROR(co_await io_.write_one(table_[index].offset().bytes(), page.bytes));
  co_return ok();
}

Task<Result<void>> BitmapContent::spill(Allocator& allocator) {
  for (auto& [index, page] : pages_) {
    if (!page.is_dirty) continue;
    CO_RETURN_IF_ERROR(co_await spill_page(index, page, allocator));
  }
  pages_.clear();
  co_return ok();
}

Task<Result<void>> BitmapContent::move_cluster(uint64_t index, Allocator& allocator) {
  CO_ASSIGN_OR_RETURN(Page* const page, co_await page_of(index));
  CO_RETURN_IF_ERROR(co_await spill_page(index, *page, allocator));
  pages_.erase(index);
  co_return ok();
}

Task<Result<HostOffset>> BitmapContent::store(Allocator& allocator) {
  for (uint64_t index = 0; index < table_.size(); ++index) {
    const auto page = pages_.find(index);
    const bool is_dirty = page != pages_.end() && page->second.is_dirty;
    const bool is_old = !is_new_[index] && !table_[index].is_all_zeros();
    if (!is_dirty && !is_old) continue;
    CO_RETURN_IF_ERROR(co_await move_cluster(index, allocator));
  }
  pages_.clear();
  std::vector<std::byte> bytes(table_.size() * kTableEntryBytes);
  for (size_t i = 0; i < table_.size(); ++i) {
    store_be(bytes.data() + i * kTableEntryBytes, table_[i].raw());
  }
  const uint64_t clusters = clusters_for(bytes.size(), geometry_.cluster_bits).value();
  CO_ASSIGN_OR_RETURN(const HostClusters place, co_await allocator.allocate_contiguous(clusters));
  const HostOffset offset(place.first << geometry_.cluster_bits);
  CO_RETURN_IF_ERROR(co_await io_.write_one(offset.bytes(), bytes));
  release_table();
  table_place_ = place;
  is_new_.assign(table_.size(), false);
  is_changed_ = false;
  co_return offset;
}

}  // namespace imgconv::qcow2
