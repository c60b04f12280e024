#include "loop/memory_model/explore.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "loop/memory_model/axioms.h"
#include "loop/memory_model/communications.h"
#include "loop/memory_model/timeline.h"
#include "loop/memory_model/unfold.h"
#include "loop/try.h"

namespace imgconv::memory_model {
namespace {

/// Of the executions that meet the condition, this many are compared for the shortest timeline.
constexpr uint64_t kMaxWitnesses = 64;

bool holds(const Condition& condition, const Outcome& outcome) {
  const auto operand_holds = [&outcome](const Condition& operand) {
    return holds(operand, outcome);
  };
  const std::vector<Condition>& operands = condition.operands;
  switch (condition.kind) {
    case Condition::Kind::kTrue:
      return true;
    case Condition::Kind::kRegisterEquals:
      return outcome.registers[condition.thread][condition.subject] == condition.value;
    case Condition::Kind::kLocationEquals:
      return outcome.memory[condition.subject] == condition.value;
    case Condition::Kind::kAnd:
      return std::all_of(operands.begin(), operands.end(), operand_holds);
    case Condition::Kind::kOr:
      return std::any_of(operands.begin(), operands.end(), operand_holds);
    case Condition::Kind::kNot:
      return !holds(operands.front(), outcome);
  }
  return false;
}

class Explorer {
 public:
  Explorer(const Program& program, Model model, const ClauseSet& dropped)
      : program_(program), model_(model), dropped_(dropped) {
    // In C++ coherence is stated by happens-before, which contains the program order.
    const Clause coherence = model == Model::kCpp20 ? Clause::kCppCoherence : Clause::kCoherence;
    rules_.is_coherent = !dropped[static_cast<size_t>(coherence)];
    rules_.is_atomic = !dropped[static_cast<size_t>(Clause::kAtomicity)];
  }

  Result<Exploration> run() && {
    RETURN_IF_ERROR(unfold_threads());
    RETURN_IF_ERROR(choose_traces());
    return std::move(exploration_);
  }

 private:
  Result<void> unfold_threads();
  bool add_written_values(Domains& domains) const;
  Result<void> choose_traces();
  bool reads_are_written() const;
  Result<void> explore_skeleton();
  Result<void> choose_histories(const Axioms& axioms, const Communication& partial);
  void accept(const Axioms& axioms, const Communication& communication);
  Outcome make_outcome() const;

  Result<void> spend(uint64_t candidates) {
    spent_ += candidates;
    if (spent_ <= kMaxCandidates) return ok();
    return Error(E2BIG, fmt::format("more than {} candidate executions", kMaxCandidates));
  }

  const Program& program_;
  Model model_;
  ClauseSet dropped_;
  HistoryRules rules_;
  uint64_t spent_ = 0;

  /// By thread.
  std::vector<std::vector<Trace>> traces_;
  std::vector<const Trace*> chosen_traces_;
  Skeleton skeleton_;
  /// By LocationId.
  std::vector<std::vector<LocationHistory>> histories_;
  std::vector<const LocationHistory*> chosen_histories_;

  Exploration exploration_;
  std::optional<uint64_t> witness_cost_;
};

/// The values that reads may return: the initial ones, and all that can be computed from those by
/// at most as many stores as there are. A value that only justifies itself is none of them.
Result<void> Explorer::unfold_threads() {
  Domains domains(program_.locations.size());
  for (size_t i = 0; i < domains.size(); ++i) domains[i].insert(program_.locations[i].initial);
  for (size_t round = 0; round <= kMaxEvents; ++round) {
    traces_.clear();
    for (uint32_t thread = 0; thread < program_.threads.size(); ++thread) {
      ASSIGN_OR_RETURN(std::vector<Trace> traces, unfold(program_, thread, model_, domains));
      traces_.push_back(std::move(traces));
    }
    size_t longest_chain = 0;
    for (const std::vector<Trace>& traces : traces_) {
      size_t most_writes = 0;
      for (const Trace& trace : traces) {
        const auto writes =
            std::count_if(trace.events.begin(), trace.events.end(),
                          [](const Event& event) { return event.kind == Event::Kind::kWrite; });
        most_writes = std::max(most_writes, static_cast<size_t>(writes));
      }
      longest_chain += most_writes;
    }
    if (round > longest_chain || !add_written_values(domains)) return ok();
  }
  return ok();
}

bool Explorer::add_written_values(Domains& domains) const {
  bool is_new = false;
  for (const std::vector<Trace>& traces : traces_) {
    for (const Trace& trace : traces) {
      for (const Event& event : trace.events) {
        if (event.kind != Event::Kind::kWrite) continue;
        is_new |= domains[event.location].insert(event.value).second;
      }
    }
  }
  return is_new;
}

Result<void> Explorer::choose_traces() {
  const size_t thread = chosen_traces_.size();
  if (thread == program_.threads.size()) {
    RETURN_IF_ERROR(spend(1));
    if (reads_are_written()) return explore_skeleton();
    return ok();
  }
  for (const Trace& trace : traces_[thread]) {
    chosen_traces_.push_back(&trace);
    RETURN_IF_ERROR(choose_traces());
    chosen_traces_.pop_back();
  }
  return ok();
}

bool Explorer::reads_are_written() const {
  const auto is_written = [this](const Event& read) {
    if (program_.locations[read.location].initial == read.value) return true;
    for (const Trace* trace : chosen_traces_) {
      for (const Event& event : trace->events) {
        const bool is_write = event.kind == Event::Kind::kWrite;
        if (is_write && event.location == read.location && event.value == read.value) return true;
      }
    }
    return false;
  };
  for (const Trace* trace : chosen_traces_) {
    for (const Event& event : trace->events) {
      if (event.kind == Event::Kind::kRead && !is_written(event)) return false;
    }
  }
  return true;
}

Result<void> Explorer::explore_skeleton() {
  size_t size = program_.locations.size();
  for (const Trace* trace : chosen_traces_) size += trace->events.size();
  if (size > kMaxEvents) {
    return Error(E2BIG, fmt::format("more than {} reads, writes and fences", kMaxEvents));
  }
  skeleton_ = make_skeleton(program_, chosen_traces_);
  histories_.clear();
  for (LocationId location = 0; location < program_.locations.size(); ++location) {
    histories_.push_back(location_histories(skeleton_, location, rules_, kMaxCandidates - spent_));
    RETURN_IF_ERROR(spend(histories_.back().size()));
  }
  const Axioms axioms(skeleton_, model_, dropped_);
  return choose_histories(axioms, Communication(skeleton_.events.size()));
}

Result<void> Explorer::choose_histories(const Axioms& axioms, const Communication& partial) {
  const size_t location = chosen_histories_.size();
  if (location == histories_.size()) {
    accept(axioms, partial);
    return ok();
  }
  for (const LocationHistory& history : histories_[location]) {
    RETURN_IF_ERROR(spend(1));
    Communication communication = partial;
    add_history(history, communication);
    if (!axioms.allow(communication)) continue;
    chosen_histories_.push_back(&history);
    RETURN_IF_ERROR(choose_histories(axioms, communication));
    chosen_histories_.pop_back();
  }
  return ok();
}

Outcome Explorer::make_outcome() const {
  Outcome outcome;
  for (const Trace* trace : chosen_traces_) outcome.registers.push_back(trace->registers);
  for (const LocationHistory* history : chosen_histories_) {
    outcome.memory.push_back(skeleton_.events[history->writes_in_order.back()].value);
  }
  return outcome;
}

void Explorer::accept(const Axioms& axioms, const Communication& communication) {
  Outcome outcome = make_outcome();
  ++exploration_.allowed_executions;
  exploration_.has_data_race |= axioms.has_data_race(communication);
  const bool is_asked_for =
      holds(program_.condition, outcome) != (program_.quantifier == Quantifier::kForAll);
  if (is_asked_for) {
    exploration_.is_reachable = true;
    ++exploration_.reaching_executions;
    if (exploration_.reaching_executions <= kMaxWitnesses) {
      const Timeline timeline = make_timeline(skeleton_, axioms.timeline_order(communication));
      if (!witness_cost_ || timeline.cost < *witness_cost_) {
        witness_cost_ = timeline.cost;
        exploration_.witness = make_witness(skeleton_, model_, communication, timeline, outcome);
      }
    }
  }
  exploration_.outcomes.insert(std::move(outcome));
}

}  // namespace

Result<Exploration> explore(const Program& program, Model model, const ClauseSet& dropped) {
  return Explorer(program, model, dropped).run();
}

}  // namespace imgconv::memory_model
