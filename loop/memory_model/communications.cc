#include "loop/memory_model/communications.h"

#include <algorithm>
#include <utility>

#include "loop/try.h"

namespace imgconv::memory_model {

CommunicationSearch::CommunicationSearch(const Program& program, Model model,
                                         const std::vector<const Path*>& paths,
                                         const Skeleton& skeleton, const Axioms& axioms,
                                         const HistoryRules& rules, Visitor& visitor)
    : program_(program),
      model_(model),
      paths_(paths),
      skeleton_(skeleton),
      axioms_(axioms),
      rules_(rules),
      visitor_(visitor),
      locations_(program.locations.size()),
      rank_(skeleton.events.size()) {
  size_t first_event = program.locations.size();
  for (const Path* path : paths) {
    first_events_.push_back(first_event);
    first_event += path->events.size();
  }
  for (size_t i = 0; i < skeleton.events.size(); ++i) {
    const Event& event = skeleton.events[i];
    if (event.kind == Event::Kind::kFence) continue;
    Location& location = locations_[event.location];
    (event.kind == Event::Kind::kRead ? location.reads : location.writes).push_back(i);
  }
}

Result<void> CommunicationSearch::run() {
  PartialExecution execution{Communication(skeleton_.events.size()),
                             std::vector<MaybeValue>(skeleton_.events.size()),
                             std::vector<std::vector<MaybeValue>>(paths_.size()),
                             std::vector<std::optional<size_t>>(locations_.size())};
  for (size_t i = 0; i < locations_.size(); ++i) {
    execution.values[i] = program_.locations[i].initial;
  }
  ASSIGN_OR_RETURN(const bool is_possible, compute_values(execution, only(paths_.size()) - 1));
  if (!is_possible) return ok();
  return begin_location(0, execution);
}

Result<bool> CommunicationSearch::is_allowed(const PartialExecution& execution) {
  if (!axioms_.allow(execution.communication)) return false;
  return visitor_.step(execution);
}

Result<void> CommunicationSearch::begin_location(size_t index, const PartialExecution& so_far) {
  if (index == locations_.size()) {
    const auto is_known = [](const MaybeValue& value) { return value.has_value(); };
    // What is left open is a circle of values that only justify each other.
    bool is_complete = true;
    for (const std::vector<MaybeValue>& of_thread : so_far.registers) {
      is_complete = is_complete && std::all_of(of_thread.begin(), of_thread.end(), is_known);
    }
    for (size_t i = 0; i < skeleton_.events.size(); ++i) {
      const bool is_fence = skeleton_.events[i].kind == Event::Kind::kFence;
      is_complete = is_complete && (is_fence || so_far.values[i]);
    }
    if (is_complete) visitor_.accept(so_far);
    return ok();
  }
  const size_t initial = locations_[index].writes.front();
  rank_[initial] = 0;
  PartialExecution next = so_far;
  for (const size_t write : locations_[index].writes) {
    if (write != initial) next.communication.co.add(initial, write);
  }
  return place_write(index, 1, only(initial), next);
}

Result<void> CommunicationSearch::place_write(size_t index, size_t num_placed, EventSet placed,
                                              const PartialExecution& so_far) {
  const Location& location = locations_[index];
  if (num_placed == location.writes.size()) {
    PartialExecution next = so_far;
    for (const size_t write : location.writes) {
      if (rank_[write] + 1 == num_placed) next.last_writes[index] = write;
    }
    return choose_source(index, 0, next);
  }
  for (const size_t write : location.writes) {
    if ((placed & only(write)) != 0 || comes_too_early(location, write, placed)) continue;
    PartialExecution next = so_far;
    for (const size_t other : location.writes) {
      const bool is_later = other != write && (placed & only(other)) == 0;
      if (is_later) next.communication.co.add(write, other);
    }
    ASSIGN_OR_RETURN(const bool goes_on, is_allowed(next));
    if (!goes_on) continue;
    rank_[write] = num_placed;
    RETURN_IF_ERROR(place_write(index, num_placed + 1, placed | only(write), next));
  }
  return ok();
}

/// An earlier write of the thread has no place yet.
bool CommunicationSearch::comes_too_early(const Location& location, size_t write,
                                          EventSet placed) const {
  return rules_.is_coherent &&
         std::any_of(location.writes.begin(), location.writes.end(), [&](size_t other) {
           return skeleton_.po.has(other, write) && (placed & only(other)) == 0;
         });
}

Result<void> CommunicationSearch::choose_source(size_t index, size_t read_index,
                                                const PartialExecution& so_far) {
  const Location& location = locations_[index];
  if (read_index == location.reads.size()) return begin_location(index + 1, so_far);
  const size_t read = location.reads[read_index];
  for (const size_t write : location.writes) {
    if (!may_read(location, read, write, so_far.communication)) continue;
    PartialExecution next = so_far;
    next.communication.rf.add(write, read);
    // A write of the same read-modify-write is after what was read, and no obstacle: fr is kept
    // for it, too, as the models do.
    next.communication.fr.add_all(read, next.communication.co.successors(write));
    EventSet threads = 0;
    if (!pass_values_on(next, threads)) continue;
    ASSIGN_OR_RETURN(const bool is_possible, compute_values(next, threads));
    if (!is_possible) continue;
    ASSIGN_OR_RETURN(const bool goes_on, is_allowed(next));
    if (!goes_on) continue;
    RETURN_IF_ERROR(choose_source(index, read_index + 1, next));
  }
  return ok();
}

bool CommunicationSearch::may_read(const Location& location, size_t read, size_t write,
                                   const Communication& communication) const {
  if (rules_.is_atomic) {
    for (const size_t other : location.writes) {
      if (skeleton_.rmw.has(read, other) && rank_[other] != rank_[write] + 1) return false;
    }
  }
  if (!rules_.is_coherent) return true;
  // The four ways of "coherence" (CoWR, CoRW, CoRR in both directions of rf); CoWW is
  // comes_too_early().
  for (const size_t other : location.writes) {
    if (skeleton_.po.has(other, read) && rank_[other] > rank_[write]) return false;
    if (skeleton_.po.has(read, other) && rank_[other] <= rank_[write]) return false;
  }
  for (const size_t earlier : location.reads) {
    if (!skeleton_.po.has(earlier, read)) continue;
    for (const size_t source : location.writes) {
      if (communication.rf.has(source, earlier) && rank_[source] > rank_[write]) return false;
    }
  }
  return true;
}

/// From writes to those who read from them. Adds to `threads` whoever knows more now.
bool CommunicationSearch::pass_values_on(PartialExecution& execution, EventSet& threads) const {
  for (size_t write = 0; write < skeleton_.events.size(); ++write) {
    const MaybeValue written = execution.values[write];
    if (!written) continue;
    EventSet reads = execution.communication.rf.successors(write);
    for (; reads != 0; reads &= reads - 1) {
      const size_t read = static_cast<size_t>(std::countr_zero(reads));
      MaybeValue& found = execution.values[read];
      if (found && *found != *written) return false;
      if (!found) threads |= only(skeleton_.events[read].thread);
      found = written;
    }
  }
  return true;
}

Result<bool> CommunicationSearch::compute_values(PartialExecution& execution,
                                                 EventSet threads) const {
  while (threads != 0) {
    const uint32_t thread = static_cast<uint32_t>(std::countr_zero(threads));
    threads &= threads - 1;
    const auto values =
        execution.values.begin() + static_cast<std::ptrdiff_t>(first_events_[thread]);
    ASSIGN_OR_RETURN(Replay known,
                     replay(program_, thread, model_, *paths_[thread], std::to_address(values)));
    if (!known.is_possible) return false;
    std::copy(known.values.begin(), known.values.end(), values);
    execution.registers[thread] = std::move(known.registers);
    if (!pass_values_on(execution, threads)) return false;
  }
  return true;
}

}  // namespace imgconv::memory_model
