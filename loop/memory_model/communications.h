// Enumeration of who reads from whom and of the orders of the writes, for the events of one
// skeleton: a write's place or a read's source at a time, location by location, only what is
// coherent and has the right values, and no further where the model forbids what there is. Internal
// to the explorer; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "loop/memory_model/axioms.h"
#include "loop/memory_model/execution.h"
#include "loop/memory_model/unfold.h"
#include "loop/result.h"

namespace imgconv::memory_model {

struct HistoryRules {
  /// No thread sees the writes to a location in an order that differs from theirs.
  bool is_coherent = true;
  /// No write comes between the halves of a read-modify-write.
  bool is_atomic = true;
};

/// An execution, as far as it is decided.
struct PartialExecution {
  Communication communication;
  /// By event.
  std::vector<MaybeValue> values;
  /// By thread, then by RegisterId.
  std::vector<std::vector<MaybeValue>> registers;
  /// By LocationId: the last write.
  std::vector<std::optional<size_t>> last_writes;

  /// What is left in a location.
  MaybeValue final_value(LocationId location) const {
    const std::optional<size_t> last = last_writes[location];
    return last ? values[*last] : std::nullopt;
  }
};

class CommunicationSearch {
 public:
  class Visitor {
   public:
    virtual ~Visitor() = default;
    /// At each step the model allows. False: go no further that way. An error ends the search.
    virtual Result<bool> step(const PartialExecution& execution) = 0;
    /// An execution of which all is known.
    virtual void accept(const PartialExecution& execution) = 0;
  };

  /// `paths`, by thread: what `skeleton` was made of. All must outlive this.
  CommunicationSearch(const Program& program, Model model, const std::vector<const Path*>& paths,
                      const Skeleton& skeleton, const Axioms& axioms, const HistoryRules& rules,
                      Visitor& visitor);

  /// Visits every execution that the model allows.
  Result<void> run();

 private:
  struct Location {
    /// The initial one is the first.
    std::vector<size_t> writes;
    std::vector<size_t> reads;
  };

  Result<void> begin_location(size_t location, const PartialExecution& so_far);
  Result<void> place_write(size_t location, size_t num_placed, EventSet placed,
                           const PartialExecution& so_far);
  Result<void> choose_source(size_t location, size_t read_index, const PartialExecution& so_far);

  /// Whether the search goes on from here.
  Result<bool> is_allowed(const PartialExecution& execution);
  bool comes_too_early(const Location& location, size_t write, EventSet placed) const;
  bool may_read(const Location& location, size_t read, size_t write,
                const Communication& communication) const;
  /// What becomes known by what is known of `threads`. False: it does not fit together.
  Result<bool> compute_values(PartialExecution& execution, EventSet threads) const;
  bool pass_values_on(PartialExecution& execution, EventSet& threads) const;

  const Program& program_;
  const Model model_;
  const std::vector<const Path*>& paths_;
  const Skeleton& skeleton_;
  const Axioms& axioms_;
  const HistoryRules rules_;
  Visitor& visitor_;

  /// By LocationId.
  std::vector<Location> locations_;
  /// By thread: its first event.
  std::vector<size_t> first_events_;
  /// Place of a write in the order of its location.
  std::vector<size_t> rank_;
};

}  // namespace imgconv::memory_model
