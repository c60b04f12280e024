#include "formats/qcow2/table_cache.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace imgconv::qcow2 {

using State = TableCache::Page::State;

TableCache::TableCache(TableIo& io, size_t page_bytes, size_t max_pages)
    : io_(io), page_bytes_(page_bytes), max_pages_(max_pages) {
  assert(max_pages >= 2);
}

TableCache::Page* TableCache::find(uint64_t host_offset) {
  if (last_found_ != nullptr && last_found_->host_offset == host_offset) return last_found_;
  const auto found = index_.find(host_offset);
  if (found == index_.end()) return nullptr;
  last_found_ = found->second;
  last_found_->was_used = true;
  return last_found_;
}

Task<Result<void>> TableCache::load(std::span<const uint64_t> host_offsets) {
  assert(host_offsets.size() <= max_load_pages());
  std::vector<Page*> loading;
  std::vector<TableRead> reads;
  loading.reserve(host_offsets.size());
  reads.reserve(host_offsets.size());
  Result<void> result;
  for (const uint64_t host_offset : host_offsets) {
    Result<Page*> page = co_await take_page();
    if (!page) {
      result = Error(std::move(page).error());
      break;
    }
    (*page)->host_offset = host_offset;
    loading.push_back(*page);
    reads.push_back({host_offset, {(*page)->bytes.get(), page_bytes_}});
  }
  if (result) result = co_await io_.read(reads);
  for (Page* const page : loading) {
    if (!result) {
      release(*page);
      continue;
    }
    page->state = State::kClean;
    index_.emplace(page->host_offset, page);
  }
  co_return result;
}

Task<Result<TableCache::Page*>> TableCache::get(uint64_t host_offset) {
  if (Page* const page = find(host_offset)) co_return page;
  CO_RETURN_IF_ERROR(co_await load({&host_offset, 1}));
  co_return find(host_offset);
}

Task<Result<TableCache::Page*>> TableCache::create(uint64_t host_offset) {
  if (Page* const old = find(host_offset)) {
    std::memset(old->bytes.get(), 0, page_bytes_);
    mark_dirty(*old);
    co_return old;
  }
  CO_ASSIGN_OR_RETURN(Page* const page, co_await take_page());
  std::memset(page->bytes.get(), 0, page_bytes_);
  page->host_offset = host_offset;
  page->state = State::kClean;
  index_.emplace(host_offset, page);
  mark_dirty(*page);
  co_return page;
}

void TableCache::mark_dirty(Page& page) {
  if (page.state == State::kDirty) return;
  page.state = State::kDirty;
  dirty_pages_.push_back(&page);
}

void TableCache::forget(uint64_t host_offset) {
  Page* const page = find(host_offset);
  if (page == nullptr) return;
  if (page->state == State::kDirty) std::erase(dirty_pages_, page);
  index_.erase(host_offset);
  release(*page);
}

void TableCache::forget_all() {
  assert(dirty_pages_.empty());
  for (const auto& [host_offset, page] : index_) release(*page);
  index_.clear();
}

Task<Result<void>> TableCache::write_dirty() {
  if (dirty_pages_.empty()) co_return ok();
  std::sort(dirty_pages_.begin(), dirty_pages_.end(),
            [](const Page* a, const Page* b) { return a->host_offset < b->host_offset; });
  std::vector<TableWrite> writes;
  writes.reserve(dirty_pages_.size());
  for (const Page* const page : dirty_pages_) {
    writes.push_back({page->host_offset, {page->bytes.get(), page_bytes_}});
  }
  CO_RETURN_IF_ERROR(co_await io_.write(writes));
  for (Page* const page : dirty_pages_) page->state = State::kClean;
  dirty_pages_.clear();
  co_return ok();
}

Task<Result<TableCache::Page*>> TableCache::take_page() {
  Page* page = nullptr;
  if (!free_pages_.empty()) {
    page = free_pages_.back();
    free_pages_.pop_back();
  } else if (pages_.size() < max_pages_) {
    pages_.push_back(std::make_unique<Page>());
    page = pages_.back().get();
    page->bytes = std::make_unique_for_overwrite<std::byte[]>(page_bytes_);
  } else {
    // Not only when all are dirty: looking for the last few clean ones costs a round each.
    const bool mostly_dirty = dirty_pages_.size() > max_pages_ / 4 * 3;
    page = mostly_dirty ? nullptr : find_victim();
    if (page == nullptr) {
      if (write_back_) {
        CO_RETURN_IF_ERROR(co_await write_back_());
      } else {
        CO_RETURN_IF_ERROR(co_await write_dirty());
      }
      page = find_victim();
      assert(page != nullptr);
    }
    index_.erase(page->host_offset);
    if (last_found_ == page) last_found_ = nullptr;
  }
  page->state = State::kLoading;
  page->was_used = true;
  co_return page;
}

TableCache::Page* TableCache::find_victim() {
  // Two rounds: the first may only take away second chances.
  for (size_t step = 0; step < 2 * pages_.size(); ++step) {
    Page& page = *pages_[clock_hand_];
    clock_hand_ = (clock_hand_ + 1) % pages_.size();
    if (page.state != State::kClean) continue;
    if (!page.was_used) return &page;
    page.was_used = false;
  }
  return nullptr;
}

void TableCache::release(Page& page) {
  if (last_found_ == &page) last_found_ = nullptr;
  page.state = State::kFree;
  free_pages_.push_back(&page);
}

}  // namespace imgconv::qcow2
