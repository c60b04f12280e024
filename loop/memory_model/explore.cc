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

/// Of the executions that meet the condition, this many are compared for the shortest timeline, as
/// long as the search for timelines is not too long itself.
constexpr uint64_t kMaxWitnesses = 64;
constexpr size_t kMaxTimelineStates = 50'000;
constexpr size_t kMaxTimelineStatesInAll = 200'000;

/// Whether `condition` holds; nothing: that is not decided yet.
std::optional<bool> holds(const Condition& condition, const PartialExecution& execution) {
  const auto is_equal = [&condition](const MaybeValue& value) {
    return value ? std::optional(*value == condition.value) : std::nullopt;
  };
  // Of an "and"; an "or" is the same with true and false exchanged.
  const auto all_are = [&](bool wanted) -> std::optional<bool> {
    bool is_known = true;
    for (const Condition& operand : condition.operands) {
      const std::optional<bool> value = holds(operand, execution);
      if (value == !wanted) return !wanted;
      is_known = is_known && value.has_value();
    }
    return is_known ? std::optional(wanted) : std::nullopt;
  };
  switch (condition.kind) {
    case Condition::Kind::kTrue:
      return true;
    case Condition::Kind::kRegisterEquals:
      return is_equal(execution.registers[condition.thread][condition.subject]);
    case Condition::Kind::kLocationEquals:
      return is_equal(execution.final_value(condition.subject));
    case Condition::Kind::kAnd:
      return all_are(true);
    case Condition::Kind::kOr:
      return all_are(false);
    case Condition::Kind::kNot: {
      const std::optional<bool> value = holds(condition.operands.front(), execution);
      return value ? std::optional(!*value) : std::nullopt;
    }
  }
  return std::nullopt;
}

/// All executions, or only those that end as the condition says (kForAll: against it).
enum class Extent : uint8_t { kAll, kAskedFor };

class Explorer final : private CommunicationSearch::Visitor {
 public:
  Explorer(const Program& program, Model model, const ClauseSet& dropped, Extent extent)
      : program_(program), model_(model), dropped_(dropped), extent_(extent) {
    // In C++ coherence is stated by happens-before, which contains the program order.
    const Clause coherence = model == Model::kCpp20 ? Clause::kCppCoherence : Clause::kCoherence;
    rules_.is_coherent = !dropped[static_cast<size_t>(coherence)];
    rules_.is_atomic = !dropped[static_cast<size_t>(Clause::kAtomicity)];
    exploration_.has_all_executions = extent == Extent::kAll;
  }

  Result<Exploration> run() && {
    for (uint32_t thread = 0; thread < program_.threads.size(); ++thread) {
      ASSIGN_OR_RETURN(std::vector<Path> paths, unfold(program_, thread, model_));
      paths_.push_back(std::move(paths));
    }
    Result<void> searched = choose_paths();
    // One is enough for a yes.
    const bool is_answered = extent_ == Extent::kAskedFor && exploration_.is_reachable;
    if (!searched && !(is_answered && searched.error().code() == E2BIG)) {
      return std::move(searched).error();
    }
    return std::move(exploration_);
  }

 private:
  Result<void> choose_paths();
  Result<void> explore_skeleton();
  Result<bool> step(const PartialExecution& execution) override;
  void accept(const PartialExecution& execution) override;
  void add_witness(const PartialExecution& execution, const Outcome& outcome);

  /// The answer that is looked for: with kForAll, an execution against the condition.
  bool is_asked_for(bool condition_holds) const {
    return condition_holds != (program_.quantifier == Quantifier::kForAll);
  }
  Result<void> spend() {
    if (++num_steps_ <= kMaxSteps) return ok();
    return Error(E2BIG, fmt::format("more than {} steps of the search", kMaxSteps));
  }

  const Program& program_;
  const Model model_;
  const ClauseSet dropped_;
  const Extent extent_;
  HistoryRules rules_;
  uint64_t num_steps_ = 0;

  /// By thread.
  std::vector<std::vector<Path>> paths_;
  std::vector<const Path*> chosen_paths_;
  Skeleton skeleton_;
  /// Of skeleton_.
  std::optional<Axioms> axioms_;

  Exploration exploration_;
  std::optional<uint64_t> witness_cost_;
  size_t num_timeline_states_ = 0;
};

Result<void> Explorer::choose_paths() {
  const size_t thread = chosen_paths_.size();
  if (thread == program_.threads.size()) {
    RETURN_IF_ERROR(spend());
    return explore_skeleton();
  }
  for (const Path& path : paths_[thread]) {
    chosen_paths_.push_back(&path);
    RETURN_IF_ERROR(choose_paths());
    chosen_paths_.pop_back();
  }
  return ok();
}

Result<void> Explorer::explore_skeleton() {
  size_t size = program_.locations.size();
  for (const Path* path : chosen_paths_) size += path->events.size();
  if (size > kMaxEvents) {
    return Error(E2BIG, fmt::format("more than {} reads, writes and fences", kMaxEvents));
  }
  skeleton_ = make_skeleton(program_, chosen_paths_);
  axioms_.emplace(skeleton_, model_, dropped_);
  return CommunicationSearch(program_, model_, chosen_paths_, skeleton_, *axioms_, rules_, *this)
      .run();
}

Result<bool> Explorer::step(const PartialExecution& execution) {
  RETURN_IF_ERROR(spend());
  if (extent_ == Extent::kAll) return true;
  const std::optional<bool> value = holds(program_.condition, execution);
  return !value || is_asked_for(*value);
}

void Explorer::accept(const PartialExecution& execution) {
  const bool is_wanted = is_asked_for(*holds(program_.condition, execution));
  if (!is_wanted && extent_ == Extent::kAskedFor) return;
  Outcome outcome;
  for (const std::vector<MaybeValue>& of_thread : execution.registers) {
    std::vector<int64_t>& registers = outcome.registers.emplace_back();
    for (const MaybeValue& value : of_thread) registers.push_back(*value);
  }
  for (LocationId location = 0; location < program_.locations.size(); ++location) {
    outcome.memory.push_back(*execution.final_value(location));
  }
  ++exploration_.allowed_executions;
  exploration_.has_data_race |= axioms_->has_data_race(execution.communication);
  if (is_wanted) {
    exploration_.is_reachable = true;
    ++exploration_.reaching_executions;
    const bool is_worth_it = exploration_.reaching_executions <= kMaxWitnesses &&
                             num_timeline_states_ < kMaxTimelineStatesInAll;
    if (is_worth_it) add_witness(execution, outcome);
  }
  exploration_.outcomes.insert(std::move(outcome));
}

void Explorer::add_witness(const PartialExecution& execution, const Outcome& outcome) {
  const Communication& communication = execution.communication;
  const Timeline timeline =
      make_timeline(skeleton_, axioms_->timeline_order(communication), kMaxTimelineStates);
  num_timeline_states_ += timeline.num_states;
  if (witness_cost_ && timeline.cost >= *witness_cost_) return;
  witness_cost_ = timeline.cost;
  for (size_t i = 0; i < skeleton_.events.size(); ++i) {
    skeleton_.events[i].value = execution.values[i].value_or(0);
  }
  exploration_.witness = make_witness(skeleton_, model_, communication, timeline, outcome);
}

bool has_plain_access(const std::vector<Statement>& statements) {
  return std::any_of(statements.begin(), statements.end(), [](const Statement& statement) {
    return statement.order == Order::kPlain || has_plain_access(statement.then_branch) ||
           has_plain_access(statement.else_branch);
  });
}

/// Whether an execution that does not end as asked matters all the same, since it may be a race.
bool may_race(const Program& program, Model model) {
  return model == Model::kCpp20 &&
         std::any_of(program.threads.begin(), program.threads.end(),
                     [](const Thread& thread) { return has_plain_access(thread.body); });
}

}  // namespace

Result<Exploration> explore(const Program& program, Model model, const ClauseSet& dropped) {
  Result<Exploration> all = Explorer(program, model, dropped, Extent::kAll).run();
  if (all || all.error().code() != E2BIG || may_race(program, model)) return all;
  return Explorer(program, model, dropped, Extent::kAskedFor).run();
}

}  // namespace imgconv::memory_model
