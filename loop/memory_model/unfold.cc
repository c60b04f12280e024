#include "loop/memory_model/unfold.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "loop/memory_model/mapping.h"
#include "loop/try.h"

namespace imgconv::memory_model {
namespace {

using Kind = Statement::Kind;

/// A value, if it is known, and the reads of the thread that it was computed from.
struct Value {
  MaybeValue number = 0;
  EventSet reads = 0;
};

int64_t combine(Expression::Kind kind, int64_t a, int64_t b) {
  // In unsigned arithmetic: values wrap.
  const uint64_t x = static_cast<uint64_t>(a);
  const uint64_t y = static_cast<uint64_t>(b);
  switch (kind) {
    case Expression::Kind::kAdd:
      return static_cast<int64_t>(x + y);
    case Expression::Kind::kSubtract:
      return static_cast<int64_t>(x - y);
    case Expression::Kind::kBitAnd:
      return a & b;
    case Expression::Kind::kBitOr:
      return a | b;
    case Expression::Kind::kBitXor:
      return a ^ b;
    case Expression::Kind::kEqual:
      return a == b ? 1 : 0;
    case Expression::Kind::kNotEqual:
      return a != b ? 1 : 0;
    case Expression::Kind::kLess:
      return a < b ? 1 : 0;
    case Expression::Kind::kLessEqual:
      return a <= b ? 1 : 0;
    case Expression::Kind::kLogicalAnd:
      return a != 0 && b != 0 ? 1 : 0;
    case Expression::Kind::kLogicalOr:
      return a != 0 || b != 0 ? 1 : 0;
    default:
      return 0;
  }
}

/// What a read-modify-write leaves, given what it found.
int64_t modified(const Statement& statement, int64_t found, int64_t operand) {
  switch (statement.kind) {
    case Kind::kFetchAdd:
      return combine(Expression::Kind::kAdd, found, operand);
    case Kind::kFetchSub:
      return combine(Expression::Kind::kSubtract, found, operand);
    case Kind::kFetchOr:
      return found | operand;
    case Kind::kFetchAnd:
      return found & operand;
    case Kind::kFetchXor:
      return found ^ operand;
    default:
      return operand;
  }
}

std::optional<bool> is_different(MaybeValue a, MaybeValue b) {
  return a && b ? std::optional(*a != *b) : std::nullopt;
}

/// Decisions from a list, so that the ways of a thread can be enumerated like the numbers of an
/// odometer. What a known value decides is in the list, too, but not open.
class Decisions {
 public:
  Decisions() = default;
  explicit Decisions(const std::vector<bool>& taken) {
    for (const bool decision : taken) decisions_.push_back({decision, false});
  }

  /// `known`: what the value says, if there is one.
  bool decide(std::optional<bool> known) {
    if (next_ == decisions_.size()) decisions_.push_back({known.value_or(false), !known});
    return decisions_[next_++].taken;
  }

  /// To the next combination; false when all have been.
  bool advance() {
    next_ = 0;
    while (!decisions_.empty() && (decisions_.back().taken || !decisions_.back().is_open)) {
      decisions_.pop_back();
    }
    if (decisions_.empty()) return false;
    decisions_.back().taken = true;
    return true;
  }

  std::vector<bool> taken() const {
    std::vector<bool> taken;
    for (const Decision& decision : decisions_) taken.push_back(decision.taken);
    return taken;
  }

 private:
  struct Decision {
    bool taken;
    bool is_open;
  };
  std::vector<Decision> decisions_;
  size_t next_ = 0;
};

/// One run of one thread.
class Run {
 public:
  /// `read_values`: by event; null: nothing is known.
  Run(const Thread& thread, uint32_t thread_index, Model model, Decisions& decisions,
      const MaybeValue* read_values)
      : thread_index_(thread_index),
        model_(model),
        decisions_(decisions),
        read_values_(read_values),
        registers_(thread.registers.size()) {}

  Result<void> execute(const std::vector<Statement>& block) {
    for (const Statement& statement : block) {
      if (!is_possible_) break;
      RETURN_IF_ERROR(execute(statement));
    }
    return ok();
  }

  /// False: a value decides otherwise, or a mutex was taken already, so that the thread would not
  /// get on.
  bool is_possible() const { return is_possible_; }

  std::vector<Event> take_events() && { return std::move(events_); }
  Replay finish() && {
    Replay replay{is_possible_, std::move(values_), {}};
    for (const Value& value : registers_) replay.registers.push_back(value.number);
    return replay;
  }

 private:
  Result<void> execute(const Statement& statement);
  void load(const Statement& statement);
  void store(const Statement& statement);
  void read_modify_write(const Statement& statement);

  Value evaluate(const Expression& expression) const;
  bool decide(std::optional<bool> known) {
    const bool taken = decisions_.decide(known);
    is_possible_ = is_possible_ && known.value_or(taken) == taken;
    return taken;
  }
  void set_register(std::optional<RegisterId> id, const Value& value) {
    if (id) registers_[*id] = value;
  }
  Event& add_event(Event::Kind kind, const Statement& statement, Tags tags, MaybeValue value);
  Value add_read(const Statement& statement, Tags tags);
  void add_fence(const Statement& statement, const Recipe& made) {
    if (made.has_fence) add_event(Event::Kind::kFence, statement, made.fence, std::nullopt);
  }

  uint32_t thread_index_;
  Model model_;
  Decisions& decisions_;
  const MaybeValue* read_values_;
  std::vector<Value> registers_;
  std::vector<Event> events_;
  std::vector<MaybeValue> values_;
  /// The reads that decided a branch so far, and those in the address at hand.
  EventSet control_reads_ = 0;
  EventSet address_reads_ = 0;
  bool is_possible_ = true;
};

/// r0 ^ r0 and r0 - r0 are 0 whatever r0 is: a dependency, and no more.
bool is_zero_by_itself(const Expression& expression) {
  if (expression.kind != Expression::Kind::kBitXor &&
      expression.kind != Expression::Kind::kSubtract) {
    return false;
  }
  const Expression& a = expression.operands[0];
  const Expression& b = expression.operands[1];
  return a.kind == Expression::Kind::kRegister && b.kind == Expression::Kind::kRegister &&
         a.value == b.value;
}

Value Run::evaluate(const Expression& expression) const {
  switch (expression.kind) {
    case Expression::Kind::kConstant:
      return {expression.value, 0};
    case Expression::Kind::kRegister:
      return registers_[static_cast<size_t>(expression.value)];
    case Expression::Kind::kLogicalNot: {
      const Value value = evaluate(expression.operands[0]);
      if (!value.number) return value;
      return {*value.number == 0 ? 1 : 0, value.reads};
    }
    default: {
      const Value a = evaluate(expression.operands[0]);
      const Value b = evaluate(expression.operands[1]);
      const EventSet reads = a.reads | b.reads;
      if (is_zero_by_itself(expression)) return {0, reads};
      if (!a.number || !b.number) return {std::nullopt, reads};
      return {combine(expression.kind, *a.number, *b.number), reads};
    }
  }
}

Event& Run::add_event(Event::Kind kind, const Statement& statement, Tags tags, MaybeValue value) {
  Event& event = events_.emplace_back();
  event.kind = kind;
  event.tags = tags;
  event.thread = thread_index_;
  event.location = statement.location;
  event.control_reads = control_reads_;
  if (kind != Event::Kind::kFence) event.address_reads = address_reads_;
  event.statement = &statement;
  values_.push_back(value);
  return event;
}

Value Run::add_read(const Statement& statement, Tags tags) {
  const size_t index = events_.size();
  const MaybeValue value = read_values_ != nullptr ? read_values_[index] : std::nullopt;
  add_event(Event::Kind::kRead, statement, tags, value);
  return {value, only(index)};
}

Result<void> Run::execute(const Statement& statement) {
  if (events_.size() + 3 > kMaxEvents) {
    return Error(
        E2BIG, fmt::format("line {}: a thread of more than {} events", statement.line, kMaxEvents));
  }
  const Value index = evaluate(statement.index);
  if (index.number.value_or(0) != 0) {
    return Error(EINVAL, fmt::format("line {}: an index may be {}, but is there only to make a "
                                     "dependency and must be 0, as in x + (r0 ^ r0)",
                                     statement.line, *index.number));
  }
  address_reads_ = index.reads;
  switch (statement.kind) {
    case Kind::kAssign:
      set_register(statement.result, evaluate(statement.operand));
      return ok();
    case Kind::kIf: {
      const Value condition = evaluate(statement.operand);
      control_reads_ |= condition.reads;
      const bool is_taken = decide(is_different(condition.number, 0));
      return execute(is_taken ? statement.then_branch : statement.else_branch);
    }
    case Kind::kFence:
      add_fence(statement, recipe(model_, statement));
      return ok();
    case Kind::kLoad:
      load(statement);
      return ok();
    case Kind::kStore:
    case Kind::kMbSet:
    case Kind::kUnlock:
      store(statement);
      return ok();
    default:
      read_modify_write(statement);
      return ok();
  }
}

void Run::load(const Statement& statement) {
  set_register(statement.result, add_read(statement, recipe(model_, statement).read));
}

void Run::store(const Statement& statement) {
  const Recipe made = recipe(model_, statement);
  const Value operand = evaluate(statement.operand);
  Event& event = add_event(Event::Kind::kWrite, statement, made.write, operand.number);
  event.data_reads = operand.reads;
  add_fence(statement, made);
}

void Run::read_modify_write(const Statement& statement) {
  const Value operand = evaluate(statement.operand);
  const Value expected = evaluate(statement.expected);
  const Recipe made = recipe(model_, statement);
  const Value found = add_read(statement, made.read);
  set_register(statement.result, found);
  if (made.branches_on_read) control_reads_ |= found.reads | expected.reads;
  const bool compares = statement.kind == Kind::kCompareExchange;
  bool is_equal = true;
  if (compares) {
    const std::optional<bool> differs = is_different(found.number, expected.number);
    is_equal = decide(differs ? std::optional(!*differs) : std::nullopt);
  }
  set_register(statement.success, {is_equal ? 1 : 0, found.reads | expected.reads});
  if (!is_equal) {
    const Recipe failed = failure_recipe(model_, statement);
    events_.back().tags = failed.read;
    add_fence(statement, failed);
    return;
  }
  if (statement.kind == Kind::kLock && found.number.value_or(0) != 0) is_possible_ = false;
  const bool uses_found =
      !compares && statement.kind != Kind::kExchange && statement.kind != Kind::kLock;
  MaybeValue left;
  if (operand.number && (found.number || !uses_found)) {
    left = modified(statement, found.number.value_or(0), *operand.number);
  }
  Event& event = add_event(Event::Kind::kWrite, statement, made.write, left);
  event.is_rmw_write = true;
  event.data_reads = operand.reads | (uses_found ? found.reads : EventSet{0});
  add_fence(statement, made);
}

}  // namespace

Result<std::vector<Path>> unfold(const Program& program, uint32_t thread, Model model) {
  std::vector<Path> paths;
  Decisions decisions;
  do {
    Run run(program.threads[thread], thread, model, decisions, nullptr);
    RETURN_IF_ERROR(run.execute(program.threads[thread].body));
    if (!run.is_possible()) continue;
    if (paths.size() == kMaxPaths) {
      return Error(E2BIG, fmt::format("{}: more than {} ways through the branches",
                                      program.threads[thread].name, kMaxPaths));
    }
    paths.push_back({std::move(run).take_events(), decisions.taken()});
  } while (decisions.advance());
  return paths;
}

Result<Replay> replay(const Program& program, uint32_t thread, Model model, const Path& path,
                      const MaybeValue* values) {
  Decisions decisions(path.decisions);
  Run run(program.threads[thread], thread, model, decisions, values);
  RETURN_IF_ERROR(run.execute(program.threads[thread].body));
  return std::move(run).finish();
}

}  // namespace imgconv::memory_model
