// TableCounter: the part of `check` that walks L1 and L2 tables, counts what they refer to and
// verifies each entry; entries that can be repaired are, if the context allows.
//
// A hostile image may have one table walked millions of times: by snapshots that share an L1 table,
// by L1 entries that share an L2 table. Repeated work is done as QEMU does it up to a limit; what
// is beyond is postponed, and each table then walked once, with a weight. The counters stay the
// same, a line is printed once instead of again and again. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "formats/qcow2/check_context.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/units.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class TableCounter {
 public:
  explicit TableCounter(CheckContext& context)
      : context_(context), l2_buffer_(context.header.cluster_size()) {}

  /// The header's table; its L2 tables make the statistics of `check`.
  Task<Result<void>> count_active_l1();
  /// Requires: aligned, and not larger than an L1 table may be.
  Task<Result<void>> count_snapshot_l1(HostOffset offset, uint32_t entries);
  /// What is still to be counted. Last.
  Task<Result<void>> count_postponed();

 private:
  /// How often a table is referred to, and how often by the active L1 table.
  struct Weight {
    uint64_t references = 0;
    uint64_t active = 0;
  };
  struct L2Walk;
  struct PostponedL1 {
    HostOffset offset;
    uint32_t entries = 0;
  };

  Task<Result<void>> count_l1(HostOffset offset, uint32_t entries, uint64_t active);
  Task<Result<void>> count_l1_entry(L1Entry entry, Weight weight);
  Task<Result<void>> count_l2(HostOffset offset, Weight weight);
  Task<Result<void>> count_postponed_l1();
  Task<Result<void>> count_l1_slots(uint64_t begin, uint64_t end, uint64_t weight);
  bool may_repeat(uint64_t entries);

  static Result<void> count_l2_entry(L2Walk& walk, const L2Entry& entry, uint64_t index);
  static Result<void> count_allocated(L2Walk& walk, const L2Entry& entry, uint64_t index);
  static void count_compressed(L2Walk& walk, const L2Entry& entry, uint64_t index);
  static Result<bool> check_alignment(L2Walk& walk, const L2Entry& entry, uint64_t index);
  static Result<void> zero_l2_entry(L2Walk& walk, const L2Entry& entry, uint64_t index);
  static Task<Result<void>> write_zeroed_entries(L2Walk& walk);

  CheckContext& context_;
  std::vector<std::byte> l2_buffer_;
  /// L2 tables met so far, by host offset; references that were not counted yet.
  std::unordered_map<uint64_t, Weight> l2_tables_;
  std::vector<PostponedL1> postponed_l1_;
  uint64_t repeated_entries_ = 0;
};

}  // namespace imgconv::qcow2
