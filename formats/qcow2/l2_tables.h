// L2Tables: the way from a guest cluster to its L2 entry: the L1 table in memory, L2 tables through
// a cache (QCOW2.md 3 and 4).
//
// It finds, loads, changes and writes entries; what they mean is mapping.h's business, where tables
// are placed the Writer's. Loop thread only, one task at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/table_cache.h"
#include "formats/qcow2/table_io.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// The L2 entries of one loaded page: entry 0 belongs to guest cluster `first_guest_cluster`. Valid
/// as long as the cache page is (table_cache.h).
struct L2Page {
  TableCache::Page* page = nullptr;
  uint64_t first_guest_cluster = 0;
  uint64_t entries = 0;
  bool is_extended = false;

  L2Entry entry(uint64_t index) const {
    const std::byte* const bytes = page->bytes.get();
    if (!is_extended) return L2Entry(load_be<uint64_t>(bytes + index * 8));
    return L2Entry(load_be<uint64_t>(bytes + index * 16),
                   SubclusterBitmap(load_be<uint64_t>(bytes + index * 16 + 8)));
  }
  uint64_t end_guest_cluster() const { return first_guest_cluster + entries; }
};

class L2Tables {
 public:
  /// `header` and `io` must outlive it.
  L2Tables(const Header& header, TableIo& io);

  /// From now on tables that the file is too short for are errors; without it they are empty.
  /// Requires: nothing is written.
  void refuse_truncated() { refuses_truncated_ = true; }
  bool refuses_truncated() const { return refuses_truncated_; }
  /// Reads an L1 table of that many entries.
  Task<Result<void>> load_l1(HostOffset offset, uint64_t entries);
  void set_write_back(TableCache::WriteBack write_back);

  uint64_t l1_index(uint64_t guest_cluster) const { return guest_cluster / l2_entries_; }
  uint64_t l2_entries() const { return l2_entries_; }
  L1Entry l1_entry(uint64_t l1_index) const {
    return l1_index < l1_.size() ? l1_[l1_index] : L1Entry();
  }
  /// Whether there is something to ask page_of() for: a table, or the error that it is lost.
  bool may_have_table(uint64_t l1_index) const {
    return l1_entry(l1_index).has_table() || is_missing(l1_index);
  }
  std::span<const L1Entry> l1() const { return l1_; }
  bool has_any_table() const;

  /// Null page: there is no table. EIO when the L1 entry is damaged.
  Task<Result<L2Page>> page_of(uint64_t guest_cluster);
  /// As page_of(), and brings in further pages that guest clusters up to `end` need.
  Task<Result<L2Page>> page_with_read_ahead(uint64_t guest_cluster, uint64_t end);
  /// The page when it can be had without waiting.
  std::optional<L2Page> find_page(uint64_t guest_cluster);

  void set_entry(const L2Page& page, uint64_t index, L2Entry entry);
  /// From now on the table is the one at `table_offset`: empty. `reads_as_zeros`: the file gives
  /// zeros there.
  Task<Result<void>> start_table(uint64_t l1_index, HostOffset table_offset, bool reads_as_zeros);
  /// From now on the table is the one at `table_offset`, with the entries it had.
  Task<Result<void>> copy_table(uint64_t l1_index, HostOffset table_offset);

  bool has_dirty_tables() const { return cache_.has_dirty(); }
  std::span<TableCache::Page* const> dirty_pages() const { return cache_.dirty_pages(); }
  bool is_l1_dirty() const { return dirty_begin_ != dirty_end_; }
  void set_l1(uint64_t l1_index, L1Entry entry);
  /// From now on the L1 table is this one, which stands at `offset` in the file already.
  void replace_l1(HostOffset offset, std::vector<L1Entry> l1);

  /// L2 tables were changed in the file. Requires: none of them is dirty here.
  void forget_tables() { cache_.forget_all(); }

  Task<Result<void>> write_dirty_tables();
  Task<Result<void>> write_dirty_l1();

 private:
  bool is_missing(uint64_t l1_index) const {
    return refuses_truncated_ && l1_index >= missing_l1_begin_ && l1_index < missing_l1_end_;
  }
  void show_table(uint64_t l1_index, HostOffset table_offset);
  Result<std::optional<uint64_t>> page_offset(uint64_t guest_cluster) const;
  L2Page make_page(TableCache::Page* page, uint64_t guest_cluster) const;

  const Header& header_;
  TableIo& io_;
  const uint64_t l2_entries_;
  const uint64_t page_entries_;
  TableCache cache_;
  bool refuses_truncated_ = false;
  /// When the L1 table was loaded, or behind the table that was added last.
  uint64_t file_length_ = 0;
  /// Entries of the L1 table that the file is too short for.
  uint64_t missing_l1_begin_ = 0;
  uint64_t missing_l1_end_ = 0;
  HostOffset l1_offset_;
  std::vector<L1Entry> l1_;
  /// L1 entries changed since they were written: [dirty_begin_, dirty_end_).
  uint64_t dirty_begin_ = 0;
  uint64_t dirty_end_ = 0;
};

}  // namespace imgconv::qcow2
