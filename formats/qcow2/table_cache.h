// TableCache: pages of L2 tables or of refcount blocks in memory, as they stand in the file
// (big-endian), with write-back and a fixed bound on memory.
//
// A page is a table, or 64 KiB of it when tables are larger. It knows nothing of what the entries
// mean, nor in which order tables must reach the file: its owner gives that order as the write-back
// function, which is called when only dirty pages are left. Replacement is second chance. A Page*
// stays valid until the next load() or create() of the same cache. Loop thread only; the caller
// makes sure that nobody else uses the cache while one of its tasks is suspended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "formats/qcow2/table_io.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class TableCache {
 public:
  struct Page {
    uint64_t host_offset = 0;
    std::unique_ptr<std::byte[]> bytes;
    enum class State : uint8_t { kFree, kLoading, kClean, kDirty } state = State::kFree;
    bool was_used = false;
  };
  using WriteBack = std::function<Task<Result<void>>()>;

  /// Requires: max_pages >= 2.
  TableCache(TableIo& io, size_t page_bytes, size_t max_pages);

  /// Must leave no dirty page behind. Without one the cache writes its own pages.
  void set_write_back(WriteBack write_back) { write_back_ = std::move(write_back); }

  size_t page_bytes() const { return page_bytes_; }
  /// How many pages one load() may ask for.
  size_t max_load_pages() const { return max_pages_ / 2; }

  /// Null when the page is not in memory. `host_offset` is the page's own.
  Page* find(uint64_t host_offset);
  /// Brings the pages in. Requires: at most max_load_pages(), none of them in memory, all distinct.
  Task<Result<void>> load(std::span<const uint64_t> host_offsets);
  /// find(), or load() of this one page.
  Task<Result<Page*>> get(uint64_t host_offset);
  /// A page of zeros that is not read from the file; dirty.
  Task<Result<Page*>> create(uint64_t host_offset);
  void mark_dirty(Page& page);
  /// The page does not belong to a table any more: forgets it without writing.
  void forget(uint64_t host_offset);
  bool has_dirty() const { return !dirty_pages_.empty(); }
  /// What write_dirty() would write.
  std::span<Page* const> dirty_pages() const { return dirty_pages_; }
  /// The file changed behind the cache. Requires: no page is dirty.
  void forget_all();
  /// Writes every dirty page, in the order of the file.
  Task<Result<void>> write_dirty();

 private:
  Task<Result<Page*>> take_page();
  Page* find_victim();
  void release(Page& page);

  TableIo& io_;
  const size_t page_bytes_;
  const size_t max_pages_;
  WriteBack write_back_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::vector<Page*> free_pages_;
  std::vector<Page*> dirty_pages_;
  std::unordered_map<uint64_t, Page*> index_;
  Page* last_found_ = nullptr;
  size_t clock_hand_ = 0;
};

}  // namespace imgconv::qcow2
