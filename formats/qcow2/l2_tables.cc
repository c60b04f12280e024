#include "formats/qcow2/l2_tables.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "formats/qcow2/corruption.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

constexpr uint64_t kPageBytes = 64 * kKiB;
// Ours: maps 64 GiB at 64 KiB clusters, 512 MiB at 512 bytes. Copies go through an image in order,
// so more would only be remembered in vain.
constexpr uint64_t kCacheBytes = 8 * kMiB;
// One batch of read-ahead: enough to hide a trip to the pool, little enough to waste.
constexpr uint64_t kReadAheadBytes = 256 * kKiB;

uint64_t page_bytes_for(const Header& header) {
  return std::min(header.cluster_size(), kPageBytes);
}

Error truncated(uint64_t file_length, const char* what, uint64_t host_offset) {
  return Error::from_errno(EIO).with_hint(
      fmt::format("The image is truncated: its file ends at byte {}, {} is expected at byte {}.",
                  file_length, what, host_offset));
}

}  // namespace

L2Tables::L2Tables(const Header& header, TableIo& io)
    : header_(header),
      io_(io),
      l2_entries_(header.l2_entries()),
      page_entries_(page_bytes_for(header) / header.l2_entry_bytes()),
      cache_(io, page_bytes_for(header), kCacheBytes / page_bytes_for(header)) {}

Task<Result<void>> L2Tables::load_l1(HostOffset offset, uint64_t entries) {
  // The file bounds what is allocated: a header alone may ask for 32 MiB.
  CO_ASSIGN_OR_RETURN(const FileStat stat, io_.file().stat());
  const uint64_t available_bytes = offset.bytes() < stat.length ? stat.length - offset.bytes() : 0;
  const uint64_t available = div_round_up(available_bytes, kTableEntryBytes);
  file_length_ = stat.length;
  missing_l1_begin_ = std::min(entries, available_bytes / kTableEntryBytes);
  missing_l1_end_ = entries;
  static_assert(sizeof(L1Entry) == kTableEntryBytes);
  std::vector<L1Entry> table(std::min(entries, available));
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(table));
  if (!bytes.empty()) {
    CO_RETURN_IF_ERROR(co_await io_.read_one(offset.bytes(), bytes));
  }
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = L1Entry(load_be<uint64_t>(bytes.data() + i * kTableEntryBytes));
  }
  l1_ = std::move(table);
  l1_offset_ = offset;
  co_return ok();
}

void L2Tables::set_write_back(TableCache::WriteBack write_back) {
  cache_.set_write_back(std::move(write_back));
}

bool L2Tables::has_any_table() const {
  return std::any_of(l1_.begin(), l1_.end(), [](L1Entry entry) { return entry.has_table(); });
}

Result<std::optional<uint64_t>> L2Tables::page_offset(uint64_t guest_cluster) const {
  const uint64_t index = l1_index(guest_cluster);
  if (is_missing(index)) {
    return truncated(file_length_, "the L1 entry", l1_offset_.bytes() + index * kTableEntryBytes);
  }
  const L1Entry entry = l1_entry(index);
  if (!entry.has_table()) return std::optional<uint64_t>();
  const uint64_t table_offset = entry.table_offset().bytes();
  if (!is_aligned(table_offset, header_.cluster_size())) {
    return corruption(
        fmt::format("L2 table offset {} unaligned (L1 index: {})", hex(table_offset), hex(index)));
  }
  if (refuses_truncated_ &&
      (table_offset > file_length_ || file_length_ - table_offset < header_.cluster_size())) {
    return truncated(file_length_, "an L2 table", table_offset);
  }
  const uint64_t page_in_table = guest_cluster % l2_entries_ / page_entries_;
  return std::optional(table_offset + page_in_table * cache_.page_bytes());
}

L2Page L2Tables::make_page(TableCache::Page* page, uint64_t guest_cluster) const {
  return {page, round_down(guest_cluster, page_entries_), page_entries_, header_.has_extended_l2()};
}

std::optional<L2Page> L2Tables::find_page(uint64_t guest_cluster) {
  const Result<std::optional<uint64_t>> offset = page_offset(guest_cluster);
  if (!offset || !*offset) return std::nullopt;
  TableCache::Page* const page = cache_.find(**offset);
  if (page == nullptr) return std::nullopt;
  return make_page(page, guest_cluster);
}

Task<Result<L2Page>> L2Tables::page_of(uint64_t guest_cluster) {
  CO_ASSIGN_OR_RETURN(const std::optional<uint64_t> offset, page_offset(guest_cluster));
  if (!offset) co_return make_page(nullptr, guest_cluster);
  CO_ASSIGN_OR_RETURN(TableCache::Page* const page, co_await cache_.get(*offset));
  co_return make_page(page, guest_cluster);
}

Task<Result<L2Page>> L2Tables::page_with_read_ahead(uint64_t guest_cluster, uint64_t end) {
  const size_t max_pages = std::min<size_t>(
      cache_.max_load_pages(), std::max<size_t>(1, kReadAheadBytes / cache_.page_bytes()));
  std::vector<uint64_t> wanted;
  for (uint64_t cluster = round_down(guest_cluster, page_entries_);
       cluster < end && wanted.size() < max_pages; cluster += page_entries_) {
    const Result<std::optional<uint64_t>> offset = page_offset(cluster);
    // Damage further on is reported when somebody asks for that cluster.
    if (!offset) break;
    if (!*offset) continue;
    // Two L1 entries with one table are damage, but the batch must not hold a page twice.
    const bool is_known = std::find(wanted.begin(), wanted.end(), **offset) != wanted.end();
    if (is_known || cache_.find(**offset) != nullptr) break;
    wanted.push_back(**offset);
  }
  // A failure may belong to a page that nobody needs yet; page_of() asks for the one that matters.
  Result<void> ignored = co_await cache_.load(wanted);
  static_cast<void>(ignored);
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_of(guest_cluster));
  co_return page;
}

void L2Tables::set_entry(const L2Page& page, uint64_t index, L2Entry entry) {
  std::byte* const bytes = page.page->bytes.get();
  if (page.is_extended) {
    store_be(bytes + index * 16, entry.raw());
    store_be(bytes + index * 16 + 8, entry.bitmap().raw());
  } else {
    store_be(bytes + index * 8, entry.raw());
  }
  cache_.mark_dirty(*page.page);
}

void L2Tables::set_l1(uint64_t l1_index, L1Entry entry) {
  if (l1_index >= l1_.size()) l1_.resize(l1_index + 1);
  l1_[l1_index] = entry;
  const bool was_clean = dirty_begin_ == dirty_end_;
  dirty_begin_ = was_clean ? l1_index : std::min(dirty_begin_, l1_index);
  dirty_end_ = was_clean ? l1_index + 1 : std::max(dirty_end_, l1_index + 1);
}

void L2Tables::replace_l1(HostOffset offset, std::vector<L1Entry> l1) {
  l1_ = std::move(l1);
  l1_offset_ = offset;
  dirty_begin_ = dirty_end_ = 0;
}

void L2Tables::show_table(uint64_t l1_index, HostOffset table_offset) {
  set_l1(l1_index, L1Entry::table(table_offset, Copied::kYes));
  file_length_ = std::max(file_length_, table_offset.bytes() + header_.cluster_size());
}

Task<Result<void>> L2Tables::start_table(uint64_t l1_index, HostOffset table_offset,
                                         bool reads_as_zeros) {
  for (uint64_t at = 0; at < header_.cluster_size(); at += cache_.page_bytes()) {
    // A page of a table in untouched space needs no memory before something is entered in it.
    if (reads_as_zeros && at > 0) break;
    CO_RETURN_IF_ERROR(co_await cache_.create(table_offset.bytes() + at));
  }
  show_table(l1_index, table_offset);
  co_return ok();
}

Task<Result<void>> L2Tables::copy_table(uint64_t l1_index, HostOffset table_offset) {
  const uint64_t first_cluster = l1_index * l2_entries_;
  for (uint64_t at = 0; at < header_.cluster_size(); at += cache_.page_bytes()) {
    const uint64_t pages_before = at / cache_.page_bytes();
    CO_ASSIGN_OR_RETURN(const L2Page old,
                        co_await page_of(first_cluster + pages_before * page_entries_));
    const std::vector<std::byte> bytes(old.page->bytes.get(),
                                       old.page->bytes.get() + cache_.page_bytes());
    CO_ASSIGN_OR_RETURN(TableCache::Page* const copy,
                        co_await cache_.create(table_offset.bytes() + at));
    std::memcpy(copy->bytes.get(), bytes.data(), bytes.size());
  }
  show_table(l1_index, table_offset);
  co_return ok();
}

Task<Result<void>> L2Tables::write_dirty_tables() {
  CO_RETURN_IF_ERROR(co_await cache_.write_dirty());
  co_return ok();
}

Task<Result<void>> L2Tables::write_dirty_l1() {
  if (dirty_begin_ == dirty_end_) co_return ok();
  std::vector<std::byte> bytes((dirty_end_ - dirty_begin_) * kTableEntryBytes);
  for (uint64_t i = dirty_begin_; i < dirty_end_; ++i) {
    store_be(bytes.data() + (i - dirty_begin_) * kTableEntryBytes, l1_[i].raw());
  }
  CO_RETURN_IF_ERROR(
      co_await io_.write_one(l1_offset_.bytes() + dirty_begin_ * kTableEntryBytes, bytes));
  dirty_begin_ = dirty_end_ = 0;
  co_return ok();
}

}  // namespace imgconv::qcow2
