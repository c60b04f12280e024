#include "loop/memory_model/unfold.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "loop/memory_model/mapping.h"
#include "loop/try.h"

namespace imgconv::memory_model {
namespace {

using Kind = Statement::Kind;

/// A value, and the reads of the thread that it was computed from.
struct Value {
  int64_t number = 0;
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

/// Reads answered from a list of choices, so that runs of one thread can be enumerated like the
/// numbers of an odometer.
class Choices {
 public:
  size_t choose(size_t count) {
    if (next_ == choices_.size()) choices_.push_back({0, count});
    return choices_[next_++].taken;
  }

  /// To the next combination; false when all have been.
  bool advance() {
    next_ = 0;
    while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().count) {
      choices_.pop_back();
    }
    if (choices_.empty()) return false;
    ++choices_.back().taken;
    return true;
  }

 private:
  struct Choice {
    size_t taken;
    size_t count;
  };
  std::vector<Choice> choices_;
  size_t next_ = 0;
};

/// One run of one thread.
class Run {
 public:
  Run(const Thread& thread, uint32_t thread_index, Model model, const Domains& domains,
      Choices& choices)
      : thread_index_(thread_index),
        model_(model),
        domains_(domains),
        choices_(choices),
        registers_(thread.registers.size()) {}

  Result<void> execute(const std::vector<Statement>& block) {
    for (const Statement& statement : block) {
      if (is_blocked_) break;
      RETURN_IF_ERROR(execute(statement));
    }
    return ok();
  }

  /// A mutex was taken already: the thread would not get on.
  bool is_blocked() const { return is_blocked_; }

  Trace finish() && {
    Trace trace;
    trace.events = std::move(events_);
    for (const Value& value : registers_) trace.registers.push_back(value.number);
    return trace;
  }

 private:
  Result<void> execute(const Statement& statement);
  void load(const Statement& statement);
  void store(const Statement& statement);
  void read_modify_write(const Statement& statement);

  Value evaluate(const Expression& expression) const;
  void set_register(std::optional<RegisterId> id, const Value& value) {
    if (id) registers_[*id] = value;
  }
  Event& add_event(Event::Kind kind, const Statement& statement, Tags tags);
  /// The value that the choices give to a read of the statement's location.
  Value add_read(const Statement& statement, Tags tags);
  void add_fence(const Statement& statement, const Recipe& made) {
    if (made.has_fence) add_event(Event::Kind::kFence, statement, made.fence);
  }

  uint32_t thread_index_;
  Model model_;
  const Domains& domains_;
  Choices& choices_;
  std::vector<Value> registers_;
  std::vector<Event> events_;
  /// The reads that decided a branch so far, and those in the address at hand.
  EventSet control_reads_ = 0;
  EventSet address_reads_ = 0;
  bool is_blocked_ = false;
};

Value Run::evaluate(const Expression& expression) const {
  switch (expression.kind) {
    case Expression::Kind::kConstant:
      return {expression.value, 0};
    case Expression::Kind::kRegister:
      return registers_[static_cast<size_t>(expression.value)];
    case Expression::Kind::kLogicalNot: {
      const Value value = evaluate(expression.operands[0]);
      return {value.number == 0 ? 1 : 0, value.reads};
    }
    default: {
      const Value a = evaluate(expression.operands[0]);
      const Value b = evaluate(expression.operands[1]);
      return {combine(expression.kind, a.number, b.number), a.reads | b.reads};
    }
  }
}

Event& Run::add_event(Event::Kind kind, const Statement& statement, Tags tags) {
  Event& event = events_.emplace_back();
  event.kind = kind;
  event.tags = tags;
  event.thread = thread_index_;
  event.location = statement.location;
  event.control_reads = control_reads_;
  if (kind != Event::Kind::kFence) event.address_reads = address_reads_;
  event.statement = &statement;
  return event;
}

Value Run::add_read(const Statement& statement, Tags tags) {
  const std::set<int64_t>& domain = domains_[statement.location];
  const size_t choice = choices_.choose(domain.size());
  Event& event = add_event(Event::Kind::kRead, statement, tags);
  event.value = *std::next(domain.begin(), static_cast<std::ptrdiff_t>(choice));
  return {event.value, only(events_.size() - 1)};
}

Result<void> Run::execute(const Statement& statement) {
  if (events_.size() + 3 > kMaxEvents) {
    return Error(
        E2BIG, fmt::format("line {}: a thread of more than {} events", statement.line, kMaxEvents));
  }
  const Value index = evaluate(statement.index);
  if (index.number != 0) {
    return Error(EINVAL, fmt::format("line {}: an index may be {}, but is there only to make a "
                                     "dependency and must be 0, as in x + (r0 ^ r0)",
                                     statement.line, index.number));
  }
  address_reads_ = index.reads;
  switch (statement.kind) {
    case Kind::kAssign:
      set_register(statement.result, evaluate(statement.operand));
      return ok();
    case Kind::kIf: {
      const Value condition = evaluate(statement.operand);
      control_reads_ |= condition.reads;
      return execute(condition.number != 0 ? statement.then_branch : statement.else_branch);
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
  Event& event = add_event(Event::Kind::kWrite, statement, made.write);
  event.value = operand.number;
  event.data_reads = operand.reads;
  add_fence(statement, made);
}

void Run::read_modify_write(const Statement& statement) {
  const Value operand = evaluate(statement.operand);
  const Value expected = evaluate(statement.expected);
  const Recipe made = recipe(model_, statement);
  const Value found = add_read(statement, made.read);
  set_register(statement.result, found);
  const bool compares = statement.kind == Kind::kCompareExchange;
  if (made.branches_on_read) control_reads_ |= found.reads | expected.reads;
  const bool is_equal = found.number == expected.number;
  set_register(statement.success, {is_equal ? 1 : 0, found.reads | expected.reads});
  if (compares && !is_equal) {
    const Recipe failed = failure_recipe(model_, statement);
    events_.back().tags = failed.read;
    add_fence(statement, failed);
    return;
  }
  if (statement.kind == Kind::kLock && found.number != 0) {
    is_blocked_ = true;
    return;
  }
  Event& event = add_event(Event::Kind::kWrite, statement, made.write);
  event.value = modified(statement, found.number, operand.number);
  event.is_rmw_write = true;
  const bool uses_found =
      !compares && statement.kind != Kind::kExchange && statement.kind != Kind::kLock;
  event.data_reads = operand.reads | (uses_found ? found.reads : EventSet{0});
  add_fence(statement, made);
}

}  // namespace

Result<std::vector<Trace>> unfold(const Program& program, uint32_t thread, Model model,
                                  const Domains& domains) {
  std::vector<Trace> traces;
  Choices choices;
  do {
    Run run(program.threads[thread], thread, model, domains, choices);
    RETURN_IF_ERROR(run.execute(program.threads[thread].body));
    if (run.is_blocked()) continue;
    if (traces.size() == kMaxTraces) {
      return Error(E2BIG, fmt::format("{}: more than {} combinations of values read",
                                      program.threads[thread].name, kMaxTraces));
    }
    traces.push_back(std::move(run).finish());
  } while (choices.advance());
  return traces;
}

}  // namespace imgconv::memory_model
