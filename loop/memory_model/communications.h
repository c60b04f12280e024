// Enumeration of who reads from whom and of the orders of the writes, for the events of one
// skeleton: location by location, only what is coherent. Internal to the explorer; any thread.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "loop/memory_model/execution.h"
#include "loop/memory_model/model.h"

namespace imgconv::memory_model {

/// One way in which the accesses to one location may be related.
struct LocationHistory {
  /// Events; the initial write is the first.
  std::vector<size_t> writes_in_order;
  struct ReadFrom {
    size_t write;
    size_t read;
  };
  std::vector<ReadFrom> reads_from;
};

struct HistoryRules {
  /// No thread sees the writes to a location in an order that differs from theirs.
  bool is_coherent = true;
  /// No write comes between the halves of a read-modify-write.
  bool is_atomic = true;
};

/// All of them, but at most `limit` and then one more.
std::vector<LocationHistory> location_histories(const Skeleton& skeleton, LocationId location,
                                                const HistoryRules& rules, uint64_t limit);

/// Adds rf, co and fr of one location.
void add_history(const LocationHistory& history, Communication& communication);

}  // namespace imgconv::memory_model
