// explore: everything that a program may do under a memory model, by enumeration of its candidate
// executions (who reads from whom, in which order the writes to a word take effect) and the model's
// axioms over each of them. Exhaustive: what is not among the outcomes cannot happen.
//
// Bounded by kMaxSteps and by 64 memory accesses. A program with too many executions to count them
// is searched again for those alone that end as the condition says; one that is beyond that as well
// is refused, never answered in part. Pure, any thread; milliseconds for protocols of two threads.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "loop/memory_model/model.h"
#include "loop/memory_model/program.h"
#include "loop/result.h"

namespace imgconv::memory_model {

/// A step is a place for a write or a source for a read, and a look at the model's axioms. Beyond
/// this many the executions are not counted, and for those that end as asked explore() gives up
/// with E2BIG.
inline constexpr uint64_t kMaxSteps = 300'000;

/// How an execution ended.
struct Outcome {
  /// By thread, then by RegisterId.
  std::vector<std::vector<int64_t>> registers;
  /// By LocationId.
  std::vector<int64_t> memory;

  auto operator<=>(const Outcome&) const = default;
};

/// One line of a timeline: an access takes effect (a load is satisfied, a store becomes visible to
/// the others), or a fence is passed.
struct Step {
  enum class Kind : uint8_t { kRead, kWrite, kReadModifyWrite, kFence };

  uint32_t thread = 0;
  Kind kind = Kind::kFence;
  std::optional<LocationId> location;
  /// Of the program that was explored.
  const Statement* statement = nullptr;
  int64_t value_read = 0;
  int64_t value_written = 0;
  /// The instruction under the model, or the memory order of C++: "ldaxr", "dmb ish", "seq_cst".
  std::string instruction;
  /// The step that wrote what is read; none if it is the initial value.
  std::optional<size_t> reads_from;
  /// Earlier in its thread's program but later in this timeline.
  std::vector<size_t> overtaken;
};

/// An execution in which the condition is met, in an order that the model permits. Refers to the
/// program.
struct Witness {
  std::vector<Step> steps;
  Outcome outcome;
};

struct Exploration {
  /// Some allowed execution ends as the condition says (kExists, kNotExists), or against it
  /// (kForAll).
  bool is_reachable = false;
  /// False: too many to count. Then what follows is about some of those executions that end so, or
  /// there is none.
  bool has_all_executions = true;
  uint64_t allowed_executions = 0;
  uint64_t reaching_executions = 0;
  /// What the allowed executions end with.
  std::set<Outcome> outcomes;
  /// C++20 only: two conflicting accesses, one of them kPlain, that nothing orders.
  bool has_data_race = false;
  /// The shortest one, if is_reachable.
  std::optional<Witness> witness;
};

/// `dropped`: clauses of the model to do without. For tests.
Result<Exploration> explore(const Program& program, Model model, const ClauseSet& dropped = {});

}  // namespace imgconv::memory_model
