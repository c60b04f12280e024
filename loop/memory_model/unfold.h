// unfold: the ways of a thread through its branches, whatever its reads return. replay: one of
// them, with what is known by now about what its reads return. Which ways and values of the threads
// fit together is the search's business. Internal to the explorer; pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "loop/memory_model/execution.h"
#include "loop/memory_model/model.h"
#include "loop/memory_model/program.h"
#include "loop/result.h"

namespace imgconv::memory_model {

/// Nothing: not known yet.
using MaybeValue = std::optional<int64_t>;

/// E2BIG beyond so many ways, or for a thread of more than kMaxEvents events.
inline constexpr size_t kMaxPaths = 4'096;

Result<std::vector<Path>> unfold(const Program& program, uint32_t thread, Model model);

struct Replay {
  /// False: with these values the thread goes another way.
  bool is_possible = true;
  /// By event: what it reads or writes.
  std::vector<MaybeValue> values;
  /// By RegisterId.
  std::vector<MaybeValue> registers;
};

/// `values`, by event of the path: what is known of those that read.
Result<Replay> replay(const Program& program, uint32_t thread, Model model, const Path& path,
                      const MaybeValue* values);

}  // namespace imgconv::memory_model
