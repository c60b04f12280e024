#include "formats/qcow2/refcount.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>

#include <fmt/format.h>

#include "formats/byteorder.h"
#include "formats/qcow2/corruption.h"
#include "formats/qcow2/refcount_width.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

constexpr uint64_t kPageBytes = 64 * kKiB;
// Ours: refcounts of 256 GiB at 64 KiB clusters. Small clusters need more of it per byte of image.
constexpr uint64_t kCacheBytes = 4 * kMiB;

constexpr size_t kReadAheadPages = 128;

uint64_t page_bytes_for(const Header& header) {
  return std::min(header.cluster_size(), kPageBytes);
}

}  // namespace

Refcounts::Refcounts(Header& header, TableIo& io)
    : header_(header),
      io_(io),
      order_(header.refcount_order),
      block_entries_(header.refcount_block_entries()),
      page_entries_(page_bytes_for(header) * 8 >> header.refcount_order),
      blocks_(io, page_bytes_for(header), kCacheBytes / page_bytes_for(header)) {}

Task<Result<void>> Refcounts::load_table() {
  order_ = header_.refcount_order;
  block_entries_ = header_.refcount_block_entries();
  page_entries_ = page_bytes_for(header_) * 8 >> order_;
  blocks_.forget_all();
  dirty_begin_ = dirty_end_ = 0;
  // Bounded by Header::parse(): at most 8 MiB.
  std::vector<std::byte> bytes(header_.refcount_table_entries() * kTableEntryBytes);
  CO_RETURN_IF_ERROR(co_await io_.read_one(header_.refcount_table_offset.bytes(), bytes));
  table_.resize(header_.refcount_table_entries());
  for (size_t i = 0; i < table_.size(); ++i) {
    table_[i] = RefcountTableEntry(load_be<uint64_t>(bytes.data() + i * kTableEntryBytes));
  }
  co_return ok();
}

Result<std::optional<uint64_t>> Refcounts::page_offset(uint64_t host_cluster) const {
  const uint64_t block_index = host_cluster / block_entries_;
  if (!has_block(block_index)) return std::optional<uint64_t>();
  const uint64_t block_offset = table_[block_index].block_offset().bytes();
  if (!is_aligned(block_offset, header_.cluster_size())) {
    return corruption(fmt::format("Refblock offset {} unaligned (reftable index: {})",
                                  hex(block_offset), hex(block_index)));
  }
  const uint64_t page_in_block = host_cluster % block_entries_ / page_entries_;
  return std::optional(block_offset + page_in_block * blocks_.page_bytes());
}

Task<Result<TableCache::Page*>> Refcounts::page_of(uint64_t host_cluster) {
  CO_ASSIGN_OR_RETURN(const std::optional<uint64_t> offset, page_offset(host_cluster));
  if (!offset) co_return nullptr;
  if (TableCache::Page* const page = blocks_.find(*offset)) co_return page;
  CO_ASSIGN_OR_RETURN(TableCache::Page* const page, co_await blocks_.get(*offset));
  co_return page;
}

Task<Result<void>> Refcounts::read_ahead(uint64_t host_cluster, uint64_t end) {
  std::vector<uint64_t> wanted;
  for (uint64_t cluster = host_cluster; cluster < end; cluster += page_entries_) {
    CO_ASSIGN_OR_RETURN(const std::optional<uint64_t> offset, page_offset(cluster));
    if (!offset) continue;
    // A page named twice is the work of a hostile image; the batch must not hold it twice.
    const bool is_known = std::find(wanted.begin(), wanted.end(), *offset) != wanted.end();
    if (is_known || blocks_.find(*offset) != nullptr) break;
    wanted.push_back(*offset);
    if (wanted.size() == std::min<size_t>(blocks_.max_load_pages(), kReadAheadPages)) break;
  }
  CO_RETURN_IF_ERROR(co_await blocks_.load(wanted));
  co_return ok();
}

Task<Result<uint64_t>> Refcounts::get(uint64_t host_cluster) {
  CO_ASSIGN_OR_RETURN(const TableCache::Page* const page, co_await page_of(host_cluster));
  if (page == nullptr) co_return uint64_t{0};
  co_return load_refcount(page->bytes.get(), host_cluster % page_entries_, order_);
}

Task<Result<HostClusters>> Refcounts::find_free(uint64_t from, uint64_t clusters) {
  HostClusters run{from, 0};
  uint64_t cluster = from;
  while (run.clusters < clusters) {
    CO_ASSIGN_OR_RETURN(const TableCache::Page* const page, co_await page_of(cluster));
    const uint64_t page_end = round_down(cluster, page_entries_) + page_entries_;
    if (page == nullptr) {
      // Nothing is counted here; behind the table nothing ever was.
      const bool is_behind_table = cluster / block_entries_ >= table_.size();
      const uint64_t rest = clusters - run.clusters;
      const uint64_t step = is_behind_table ? rest : std::min(rest, page_end - cluster);
      run.clusters += step;
      cluster += step;
      continue;
    }
    const std::byte* const counts = page->bytes.get();
    for (; cluster < page_end && run.clusters < clusters; ++cluster) {
      if (load_refcount(counts, cluster % page_entries_, order_) == 0) {
        ++run.clusters;
      } else {
        run = {cluster + 1, 0};
      }
    }
  }
  co_return run;
}

Task<Result<uint64_t>> Refcounts::count_used(uint64_t end, uint64_t enough) {
  uint64_t used = 0;
  // Nothing behind the table is in use; a lying file length must not make this loop long.
  end = std::min(end, table_.size() * block_entries_);
  for (uint64_t cluster = 0; cluster < end && used < enough;) {
    CO_ASSIGN_OR_RETURN(const std::optional<uint64_t> offset, page_offset(cluster));
    // Only for a page that is there: a search from every gap would take time squared.
    if (offset && blocks_.find(*offset) == nullptr) {
      CO_RETURN_IF_ERROR(co_await read_ahead(cluster, end));
    }
    CO_ASSIGN_OR_RETURN(const TableCache::Page* const page, co_await page_of(cluster));
    const uint64_t page_end = std::min(end, round_down(cluster, page_entries_) + page_entries_);
    if (page != nullptr) {
      for (uint64_t i = cluster; i < page_end && used < enough; ++i) {
        if (load_refcount(page->bytes.get(), i % page_entries_, order_) != 0) ++used;
      }
    }
    cluster = page_end;
  }
  co_return used;
}

Task<Result<void>> Refcounts::increment(HostClusters range) {
  CO_RETURN_IF_ERROR(co_await change(range, true));
  co_return ok();
}

Task<Result<bool>> Refcounts::decrement(HostClusters range) {
  CO_ASSIGN_OR_RETURN(const bool became_free, co_await change(range, false));
  co_return became_free;
}

Task<Result<bool>> Refcounts::change(HostClusters range, bool increment) {
  bool became_zero = false;
  for (uint64_t cluster = range.first; cluster < range.end();) {
    CO_ASSIGN_OR_RETURN(TableCache::Page* const page, co_await page_of(cluster));
    if (page == nullptr) {
      // What the original answers, which makes a block for the count and does not go on, or sees
      // that no table could point to it.
      const bool is_countable =
          cluster / block_entries_ < kMaxRefcountTableBytes / kTableEntryBytes;
      co_return Error::from_errno(is_countable ? EAGAIN : EFBIG);
    }
    const uint64_t page_end =
        std::min(range.end(), round_down(cluster, page_entries_) + page_entries_);
    std::byte* const counts = page->bytes.get();
    for (; cluster < page_end; ++cluster) {
      const uint64_t index = cluster % page_entries_;
      const uint64_t count = load_refcount(counts, index, order_);
      if (count == (increment ? max_count() : 0)) {
        // Those before it are changed, also when the page leaves the cache.
        blocks_.mark_dirty(*page);
        co_return Error::from_errno(EINVAL);
      }
      store_refcount(counts, index, order_, increment ? count + 1 : count - 1);
      if (count == 1 && !increment) became_zero = true;
    }
    blocks_.mark_dirty(*page);
  }
  co_return became_zero;
}

Task<Result<void>> Refcounts::add_block(uint64_t block_index, uint64_t host_cluster) {
  assert(!has_block(block_index));
  if (block_index >= kMaxRefcountTableBytes / kTableEntryBytes) co_return Error::from_errno(EFBIG);
  if (block_index >= table_.size()) table_.resize(block_index + 1);
  const HostOffset offset(host_cluster << header_.cluster_bits);
  // Every page, since the file may hold anything at this place.
  for (uint64_t at = 0; at < header_.cluster_size(); at += blocks_.page_bytes()) {
    CO_RETURN_IF_ERROR(co_await blocks_.create(offset.bytes() + at));
  }
  table_[block_index] = RefcountTableEntry::block(offset);
  mark_table_dirty(block_index);
  co_return ok();
}

void Refcounts::mark_table_dirty(uint64_t block_index) {
  const bool was_clean = dirty_begin_ == dirty_end_;
  dirty_begin_ = was_clean ? block_index : std::min(dirty_begin_, block_index);
  dirty_end_ = was_clean ? block_index + 1 : std::max(dirty_end_, block_index + 1);
}

Task<Result<uint64_t>> Refcounts::end_of_use(uint64_t limit) {
  uint64_t end = std::min(limit, table_.size() * block_entries_);
  while (end > 0) {
    const uint64_t page_begin = round_down(end - 1, page_entries_);
    CO_ASSIGN_OR_RETURN(const TableCache::Page* const page, co_await page_of(page_begin));
    for (; page != nullptr && end > page_begin; --end) {
      if (load_refcount(page->bytes.get(), (end - 1) % page_entries_, order_) != 0) co_return end;
    }
    end = page_begin;
  }
  co_return 0;
}

Task<Result<bool>> Refcounts::is_block_empty(uint64_t block_index) {
  const uint64_t first = block_index * block_entries_;
  const uint64_t own_cluster = table_[block_index].block_offset().bytes() >> header_.cluster_bits;
  for (uint64_t cluster = first; cluster < first + block_entries_;) {
    CO_ASSIGN_OR_RETURN(const TableCache::Page* const page, co_await page_of(cluster));
    const uint64_t page_end = cluster + page_entries_;
    for (; cluster < page_end; ++cluster) {
      const bool is_used = load_refcount(page->bytes.get(), cluster % page_entries_, order_) != 0;
      if (is_used && cluster != own_cluster) co_return false;
    }
  }
  co_return true;
}

Task<Result<std::vector<uint64_t>>> Refcounts::take_empty_blocks() {
  std::vector<uint64_t> counted_elsewhere;
  for (uint64_t i = 0; i < table_.size(); ++i) {
    if (!has_block(i)) continue;
    CO_ASSIGN_OR_RETURN(const bool is_empty, co_await is_block_empty(i));
    if (!is_empty) continue;
    const uint64_t offset = table_[i].block_offset().bytes();
    for (uint64_t at = 0; at < header_.cluster_size(); at += blocks_.page_bytes()) {
      blocks_.forget(offset + at);
    }
    table_[i] = RefcountTableEntry();
    mark_table_dirty(i);
    const uint64_t cluster = offset >> header_.cluster_bits;
    if (cluster / block_entries_ != i) counted_elsewhere.push_back(cluster);
  }
  co_return counted_elsewhere;
}

std::vector<uint64_t> Refcounts::block_clusters() const {
  std::vector<uint64_t> clusters;
  for (const RefcountTableEntry entry : table_) {
    if (entry.has_block()) clusters.push_back(entry.block_offset().bytes() >> header_.cluster_bits);
  }
  return clusters;
}

uint64_t Refcounts::table_capacity() const {
  return table_range().clusters * (header_.cluster_size() / kTableEntryBytes);
}

HostClusters Refcounts::table_range() const {
  if (new_place_) return *new_place_;
  return {header_.refcount_table_offset.bytes() >> header_.cluster_bits,
          header_.refcount_table_clusters};
}

void Refcounts::move_table(HostClusters to) { new_place_ = to; }

Task<Result<void>> Refcounts::flush() {
  CO_RETURN_IF_ERROR(co_await blocks_.write_dirty());
  if (new_place_) {
    dirty_begin_ = 0;
    dirty_end_ = table_capacity();
  }
  if (dirty_begin_ == dirty_end_) co_return ok();
  // A block counts itself: it must not be found before its counts are there.
  CO_RETURN_IF_ERROR(co_await barrier());
  CO_RETURN_IF_ERROR(co_await write_table());
  if (!new_place_) co_return ok();
  CO_RETURN_IF_ERROR(co_await barrier());

  const HostClusters place = *new_place_;
  std::array<std::byte, 12> pointer;
  static_assert(offsetof(RawHeader, refcount_table_clusters) ==
                offsetof(RawHeader, refcount_table_offset) + 8);
  store_be(pointer.data(), place.first << header_.cluster_bits);
  store_be(pointer.data() + 8, static_cast<uint32_t>(place.clusters));
  CO_RETURN_IF_ERROR(co_await io_.write_one(offsetof(RawHeader, refcount_table_offset), pointer));
  header_.refcount_table_offset = HostOffset(place.first << header_.cluster_bits);
  header_.refcount_table_clusters = static_cast<uint32_t>(place.clusters);
  new_place_.reset();
  co_return ok();
}

Task<Result<void>> Refcounts::barrier() {
  if (!barrier_) co_return ok();
  CO_RETURN_IF_ERROR(co_await barrier_());
  co_return ok();
}

Task<Result<void>> Refcounts::write_table() {
  std::vector<std::byte> bytes((dirty_end_ - dirty_begin_) * kTableEntryBytes);
  for (uint64_t i = dirty_begin_; i < std::min<uint64_t>(dirty_end_, table_.size()); ++i) {
    store_be(bytes.data() + (i - dirty_begin_) * kTableEntryBytes, table_[i].raw());
  }
  const uint64_t table_offset = table_range().first << header_.cluster_bits;
  CO_RETURN_IF_ERROR(co_await io_.write_one(table_offset + dirty_begin_ * kTableEntryBytes, bytes));
  dirty_begin_ = dirty_end_ = 0;
  co_return ok();
}

}  // namespace imgconv::qcow2
