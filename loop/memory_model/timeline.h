// The witness of an outcome as a timeline: the order in which accesses take effect, as close to the
// order of the programs as the execution permits. Internal to the explorer; pure, any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "loop/memory_model/execution.h"
#include "loop/memory_model/explore.h"
#include "loop/memory_model/model.h"
#include "loop/memory_model/program.h"

namespace imgconv::memory_model {

struct Timeline {
  /// All events but the initial writes.
  std::vector<size_t> events;
  /// The lower, the easier to read: first how often program order is left, then how often the
  /// timeline changes from thread to thread.
  uint64_t cost = 0;
  /// How many states the search looked at.
  size_t num_states = 0;
};

/// `order`: pairs that must stand in this order. With more than `max_states` to look at, the
/// timeline is one that the execution permits, but not the easiest to read.
Timeline make_timeline(const Skeleton& skeleton, const Relation& order, size_t max_states);

Witness make_witness(const Skeleton& skeleton, Model model, const Communication& communication,
                     const Timeline& timeline, Outcome outcome);

}  // namespace imgconv::memory_model
