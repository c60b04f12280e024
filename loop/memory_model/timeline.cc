#include "loop/memory_model/timeline.h"

#include <map>
#include <optional>
#include <utility>

#include "loop/memory_model/mapping.h"

namespace imgconv::memory_model {
namespace {

constexpr uint64_t kOvertakingCost = 1000;
/// Of an event that stands between the halves of a read-modify-write.
constexpr uint64_t kSplitCost = 20;
constexpr uint64_t kThreadChangeCost = 1;

/// Shortest path over the sets of events that may have taken effect (Dijkstra's algorithm).
class Search {
 public:
  Search(const Skeleton& skeleton, const Relation& order)
      : skeleton_(skeleton),
        predecessors_(order.inverse()),
        program_predecessors_(skeleton.po.inverse()) {
    for (size_t i = 0; i < skeleton.events.size(); ++i) {
      (skeleton.events[i].is_initial() ? initial_ : all_) |= only(i);
    }
    all_ |= initial_;
  }

  Timeline run(size_t max_states) {
    const State start{initial_, Event::kInitialThread};
    best_.emplace(start, Arrival{0, start, 0});
    queue_.emplace(0, start);
    while (!queue_.empty() && best_.size() <= max_states) {
      const auto [cost, state] = *queue_.begin();
      queue_.erase(queue_.begin());
      if (best_.at(state).cost < cost) continue;
      if (state.placed == all_) return path_to(state);
      expand(state, cost);
    }
    return in_any_order();
  }

 private:
  struct State {
    EventSet placed;
    uint32_t last_thread;

    auto operator<=>(const State&) const = default;
  };
  struct Arrival {
    uint64_t cost;
    State from;
    size_t event;
  };

  bool may_follow(size_t event, EventSet placed) const {
    return (placed & only(event)) == 0 && (predecessors_.successors(event) & ~placed) == 0;
  }

  void expand(const State& state, uint64_t cost) {
    for (size_t event = 0; event < skeleton_.events.size(); ++event) {
      if (!may_follow(event, state.placed)) continue;
      const State next{state.placed | only(event), skeleton_.events[event].thread};
      const uint64_t next_cost = cost + cost_of(event, state);
      const auto [arrival, is_new] = best_.try_emplace(next, Arrival{next_cost, state, event});
      if (!is_new) {
        if (arrival->second.cost <= next_cost) continue;
        arrival->second = {next_cost, state, event};
      }
      queue_.emplace(next_cost, next);
    }
  }

  uint64_t cost_of(size_t event, const State& state) const {
    uint64_t cost = 0;
    const EventSet waiting = program_predecessors_.successors(event) & ~state.placed;
    const bool is_fence = (skeleton_.fences & only(event)) != 0;
    const EventSet overtaken = is_fence ? waiting : waiting & ~skeleton_.fences;
    cost += kOvertakingCost * static_cast<uint64_t>(std::popcount(overtaken));
    for (size_t read = 0; read < skeleton_.events.size(); ++read) {
      const EventSet write = skeleton_.rmw.successors(read);
      const bool is_open =
          write != 0 && (state.placed & only(read)) != 0 && (state.placed & write) == 0;
      if (is_open && write != only(event)) cost += kSplitCost;
    }
    if (skeleton_.events[event].thread != state.last_thread) cost += kThreadChangeCost;
    return cost;
  }

  Timeline path_to(State state) const {
    Timeline timeline;
    timeline.cost = best_.at(state).cost;
    timeline.num_states = best_.size();
    while (state.placed != initial_) {
      const Arrival& arrival = best_.at(state);
      timeline.events.insert(timeline.events.begin(), arrival.event);
      state = arrival.from;
    }
    return timeline;
  }

  Timeline in_any_order() const {
    Timeline timeline;
    timeline.cost = ~uint64_t{0};
    timeline.num_states = best_.size();
    EventSet placed = initial_;
    while (placed != all_) {
      size_t next = static_cast<size_t>(std::countr_zero(all_ & ~placed));
      for (size_t event = 0; event < skeleton_.events.size(); ++event) {
        if (!may_follow(event, placed)) continue;
        next = event;
        break;
      }
      timeline.events.push_back(next);
      placed |= only(next);
    }
    return timeline;
  }

  const Skeleton& skeleton_;
  Relation predecessors_;
  Relation program_predecessors_;
  EventSet initial_ = 0;
  EventSet all_ = 0;
  std::map<State, Arrival> best_;
  std::multimap<uint64_t, State> queue_;
};

/// Events become steps, one or two to a step.
class WitnessMaker {
 public:
  WitnessMaker(const Skeleton& skeleton, Model model, const Communication& communication)
      : skeleton_(skeleton),
        model_(model),
        communication_(communication),
        step_of_(skeleton.events.size()) {}

  Witness make(const Timeline& timeline, Outcome outcome) && {
    for (const size_t event : timeline.events) add(event);
    for (const size_t event : timeline.events) note_overtaken(event);
    witness_.outcome = std::move(outcome);
    return std::move(witness_);
  }

 private:
  void add(size_t index) {
    const Event& event = skeleton_.events[index];
    const Statement& statement = *event.statement;
    const bool failed = event.kind != Event::Kind::kWrite &&
                        statement.kind == Statement::Kind::kCompareExchange &&
                        skeleton_.rmw.successors(index) == 0;
    const Recipe made = failed ? failure_recipe(model_, statement) : recipe(model_, statement);
    if (event.kind == Event::Kind::kWrite && joins_last_step(index)) {
      Step& step = witness_.steps.back();
      step.kind = Step::Kind::kReadModifyWrite;
      step.value_written = event.value;
      step_of_[index] = witness_.steps.size() - 1;
      return;
    }
    if (event.kind == Event::Kind::kFence && made.fence_instruction.empty()) return;
    Step step;
    step.thread = event.thread;
    step.statement = &statement;
    switch (event.kind) {
      case Event::Kind::kRead:
        step.kind = Step::Kind::kRead;
        step.location = event.location;
        step.value_read = event.value;
        step.instruction = made.read_instruction;
        step.reads_from = source_of(index);
        break;
      case Event::Kind::kWrite:
        step.kind = Step::Kind::kWrite;
        step.location = event.location;
        step.value_written = event.value;
        step.instruction = made.write_instruction;
        break;
      case Event::Kind::kFence:
        step.kind = Step::Kind::kFence;
        step.instruction = made.fence_instruction;
        break;
    }
    step_of_[index] = witness_.steps.size();
    last_event_ = index;
    witness_.steps.push_back(std::move(step));
  }

  /// The write of a read-modify-write of one instruction, right after its read.
  bool joins_last_step(size_t write) const {
    return (skeleton_.events[write].tags & kOneInstruction) != 0 && last_event_ &&
           skeleton_.rmw.has(*last_event_, write);
  }

  /// The step of the write that is read from; none if that is initial, or comes later: a thread
  /// reads its own store before the others can.
  std::optional<size_t> source_of(size_t read) const {
    for (size_t write = 0; write < skeleton_.events.size(); ++write) {
      if (communication_.rf.has(write, read)) return step_of_[write];
    }
    return std::nullopt;
  }

  void note_overtaken(size_t index) {
    if (!step_of_[index] || (skeleton_.fences & only(index)) != 0) return;
    std::vector<size_t>& overtaken = witness_.steps[*step_of_[index]].overtaken;
    for (size_t earlier = 0; earlier < skeleton_.events.size(); ++earlier) {
      const bool is_access = (skeleton_.fences & only(earlier)) == 0;
      if (!skeleton_.po.has(earlier, index) || !is_access || !step_of_[earlier]) continue;
      if (*step_of_[earlier] > *step_of_[index]) overtaken.push_back(*step_of_[earlier]);
    }
  }

  const Skeleton& skeleton_;
  Model model_;
  const Communication& communication_;
  Witness witness_;
  std::vector<std::optional<size_t>> step_of_;
  std::optional<size_t> last_event_;
};

}  // namespace

Timeline make_timeline(const Skeleton& skeleton, const Relation& order, size_t max_states) {
  return Search(skeleton, order).run(max_states);
}

Witness make_witness(const Skeleton& skeleton, Model model, const Communication& communication,
                     const Timeline& timeline, Outcome outcome) {
  return WitnessMaker(skeleton, model, communication).make(timeline, std::move(outcome));
}

}  // namespace imgconv::memory_model
