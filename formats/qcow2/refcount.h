// Refcounts: how often each host cluster is used: the refcount table in memory, its blocks through
// a cache (QCOW2.md 2).
//
// It counts and searches; where new blocks and a larger table go is the Allocator's decision. A
// cluster without a refcount block has count 0. Loop thread only, one task at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "formats/qcow2/header.h"
#include "formats/qcow2/table_cache.h"
#include "formats/qcow2/table_io.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Host clusters [first, first + clusters).
struct HostClusters {
  uint64_t first = 0;
  uint64_t clusters = 0;
  uint64_t end() const { return first + clusters; }
};

class Refcounts {
 public:
  /// `header` must outlive it; flush() updates its refcount table fields when the table moved.
  Refcounts(Header& header, TableIo& io);
  /// What makes sure that everything written so far reaches the medium before what follows. Without
  /// one flush() writes in the right order and no more.
  void set_barrier(std::function<Task<Result<void>>()> barrier) { barrier_ = std::move(barrier); }

  /// Reads the table that the header names, and forgets what was known of another: first of all,
  /// and when the header's width or table changed. Requires: nothing is left to be written.
  Task<Result<void>> load_table();

  uint64_t block_entries() const { return block_entries_; }
  uint64_t max_count() const { return header_.refcount_max(); }
  bool has_block(uint64_t block_index) const {
    return block_index < table_.size() && table_[block_index].has_block();
  }

  Task<Result<uint64_t>> get(uint64_t host_cluster);
  /// The first `clusters` clusters in a row with count 0 at or behind `from`.
  Task<Result<HostClusters>> find_free(uint64_t from, uint64_t clusters);
  /// How many of the clusters in [0, end) are in use; stops counting at `enough`.
  Task<Result<uint64_t>> count_used(uint64_t end, uint64_t enough);

  /// One more than the highest cluster below `limit` that is in use; 0 when none is.
  Task<Result<uint64_t>> end_of_use(uint64_t limit);

  /// Adds one to, or takes one from, each count. EINVAL when a count has no block or is at its
  /// limit: those before it are changed then.
  Task<Result<void>> increment(HostClusters range);
  /// True when a count became 0.
  Task<Result<bool>> decrement(HostClusters range);

  /// Enters a new block of zeros, in memory. Requires: there is none. EFBIG beyond the limit of the
  /// table.
  Task<Result<void>> add_block(uint64_t block_index, uint64_t host_cluster);

  unsigned order() const { return order_; }
  /// Blocks were added for which the table has no room: it must move before the next flush().
  bool is_table_full() const { return table_.size() > table_capacity(); }
  /// Takes blocks that count nothing but themselves out of the table, in memory. Returns where they
  /// stood as far as they are counted elsewhere: to be released after the next flush().
  Task<Result<std::vector<uint64_t>>> take_empty_blocks();

  /// The table stands here from the next flush() on. Requires: the range is allocated.
  void move_table(HostClusters to);
  HostClusters table_range() const;
  /// Where the blocks stand.
  std::vector<uint64_t> block_clusters() const;

  /// Writes blocks, then the table, then the header's pointer to it.
  Task<Result<void>> flush();

 private:
  Task<Result<TableCache::Page*>> page_of(uint64_t host_cluster);
  /// Brings in the pages of many clusters at once, beginning with that of `host_cluster`.
  Task<Result<void>> read_ahead(uint64_t host_cluster, uint64_t end);
  /// Where the page stands in the file; nothing when there is no block.
  Result<std::optional<uint64_t>> page_offset(uint64_t host_cluster) const;
  Task<Result<bool>> change(HostClusters range, bool increment);
  Task<Result<bool>> is_block_empty(uint64_t block_index);
  void mark_table_dirty(uint64_t block_index);
  Task<Result<void>> write_table();
  Task<Result<void>> barrier();
  uint64_t table_capacity() const;

  Header& header_;
  TableIo& io_;
  unsigned order_ = 0;
  uint64_t block_entries_ = 0;
  uint64_t page_entries_ = 0;
  TableCache blocks_;
  /// In host order, at least as many as the table in the file has.
  std::vector<RefcountTableEntry> table_;
  /// Entries changed since the last flush: [dirty_begin_, dirty_end_).
  uint64_t dirty_begin_ = 0;
  uint64_t dirty_end_ = 0;
  std::optional<HostClusters> new_place_;
  std::function<Task<Result<void>>()> barrier_;
};

}  // namespace imgconv::qcow2
