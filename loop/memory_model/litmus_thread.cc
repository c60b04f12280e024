#include "loop/memory_model/litmus_thread.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "loop/try.h"

namespace imgconv::memory_model {
namespace {

using Kind = Statement::Kind;

struct Function {
  std::string_view name;
  Kind kind;
  /// Without an argument that says so.
  Order order;
  /// Has a form NAME_explicit, with its order as the last argument.
  bool has_explicit_form;
};

constexpr Function kFunctions[] = {
    {"atomic_load", Kind::kLoad, Order::kSeqCst, true},
    {"atomic_store", Kind::kStore, Order::kSeqCst, true},
    {"atomic_exchange", Kind::kExchange, Order::kSeqCst, true},
    {"atomic_fetch_add", Kind::kFetchAdd, Order::kSeqCst, true},
    {"atomic_fetch_sub", Kind::kFetchSub, Order::kSeqCst, true},
    {"atomic_fetch_or", Kind::kFetchOr, Order::kSeqCst, true},
    {"atomic_fetch_and", Kind::kFetchAnd, Order::kSeqCst, true},
    {"atomic_fetch_xor", Kind::kFetchXor, Order::kSeqCst, true},
    {"atomic_compare_exchange_strong", Kind::kCompareExchange, Order::kSeqCst, true},
    {"mtx_lock", Kind::kLock, Order::kAcquire, false},
    {"mtx_unlock", Kind::kUnlock, Order::kRelease, false},
    // GCC's.
    {"__sync_fetch_and_add", Kind::kFetchAdd, Order::kGccSync, false},
    {"__sync_fetch_and_sub", Kind::kFetchSub, Order::kGccSync, false},
    {"__sync_fetch_and_or", Kind::kFetchOr, Order::kGccSync, false},
    {"__sync_fetch_and_and", Kind::kFetchAnd, Order::kGccSync, false},
    {"__sync_fetch_and_xor", Kind::kFetchXor, Order::kGccSync, false},
    {"__sync_synchronize", Kind::kFence, Order::kSeqCst, false},
    // QEMU's.
    {"smp_mb", Kind::kFence, Order::kSeqCst, false},
    {"smp_rmb", Kind::kFence, Order::kAcquire, false},
    {"smp_wmb", Kind::kFence, Order::kRelease, false},
    {"atomic_mb_set", Kind::kMbSet, Order::kSeqCst, false},
    {"atomic_mb_read", Kind::kLoad, Order::kAcquire, false},
};

constexpr std::string_view kExplicit = "_explicit";

/// By precedence, the loosest first, as in C.
struct Operator {
  std::string_view symbol;
  int precedence;
  Expression::Kind kind;
};

constexpr Operator kOperators[] = {
    {"||", 1, Expression::Kind::kLogicalOr}, {"&&", 2, Expression::Kind::kLogicalAnd},
    {"|", 3, Expression::Kind::kBitOr},      {"^", 4, Expression::Kind::kBitXor},
    {"&", 5, Expression::Kind::kBitAnd},     {"==", 6, Expression::Kind::kEqual},
    {"!=", 6, Expression::Kind::kNotEqual},  {"<", 7, Expression::Kind::kLess},
    {"<=", 7, Expression::Kind::kLessEqual}, {"+", 8, Expression::Kind::kAdd},
    {"-", 8, Expression::Kind::kSubtract},
};

bool is_type_word(std::string_view word) {
  constexpr std::array<std::string_view, 11> kTypes = {"int",      "long",     "short", "char",
                                                       "unsigned", "signed",   "bool",  "_Bool",
                                                       "const",    "volatile", "void"};
  const bool is_typedef = word.size() > 2 && word.substr(word.size() - 2) == "_t";
  return is_typedef || std::find(kTypes.begin(), kTypes.end(), word) != kTypes.end();
}

const Operator* find_operator(const Token& token) {
  if (token.kind != Token::Kind::kSymbol) return nullptr;
  for (const Operator& candidate : kOperators) {
    if (candidate.symbol == token.text) return &candidate;
  }
  return nullptr;
}

bool takes_address(Kind kind) { return kind != Kind::kFence; }

bool has_value(Kind kind) {
  return kind != Kind::kFence && kind != Kind::kStore && kind != Kind::kMbSet &&
         kind != Kind::kLock && kind != Kind::kUnlock;
}

bool takes_operand(Kind kind) {
  return takes_address(kind) && kind != Kind::kLoad && kind != Kind::kLock &&
         kind != Kind::kUnlock && kind != Kind::kCompareExchange;
}

}  // namespace

Result<void> ThreadParser::parse() { return parse_block(thread_.body, 0); }

Result<void> ThreadParser::parse_block(Block& block, size_t depth) {
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  RETURN_IF_ERROR(tokens_.expect("{"));
  while (!tokens_.accept("}")) RETURN_IF_ERROR(parse_statement(block, depth + 1));
  return ok();
}

Result<void> ThreadParser::parse_statement(Block& block, size_t depth) {
  if (tokens_.is_at("{")) return parse_block(block, depth);
  if (tokens_.is_at("if")) return parse_if(block, depth);
  for (const std::string_view loop : {"while", "for", "do", "goto"}) {
    if (tokens_.is_at(loop)) return tokens_.error("loops are beyond this explorer");
  }
  if (tokens_.accept(";")) return ok();
  const Token& first = tokens_.peek();
  if (first.kind == Token::Kind::kName && is_type_word(first.text)) {
    RETURN_IF_ERROR(parse_declaration(block, depth));
  } else if (first.text == "*") {
    RETURN_IF_ERROR(parse_plain_store(block, depth));
  } else if (tokens_.peek_second().text == "(") {
    RETURN_IF_ERROR(parse_call_statement(block, depth));
  } else {
    ASSIGN_OR_RETURN(const std::string_view name, tokens_.expect_name("a statement"));
    const std::optional<RegisterId> target = find_register(name);
    if (!target) return tokens_.error(fmt::format("'{}' is not declared", name));
    RETURN_IF_ERROR(tokens_.expect("="));
    RETURN_IF_ERROR(parse_assignment(block, *target, depth));
  }
  return tokens_.expect(";");
}

Result<void> ThreadParser::parse_if(Block& block, size_t depth) {
  tokens_.take();
  RETURN_IF_ERROR(tokens_.expect("("));
  Statement branch;
  branch.kind = Kind::kIf;
  branch.line = tokens_.peek().line;
  ASSIGN_OR_RETURN(branch.operand, parse_expression(block, depth + 1));
  RETURN_IF_ERROR(tokens_.expect(")"));
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  ASSIGN_OR_RETURN(branch.position, next_position());
  RETURN_IF_ERROR(parse_statement(branch.then_branch, depth + 1));
  if (tokens_.accept("else")) {
    RETURN_IF_ERROR(parse_statement(branch.else_branch, depth + 1));
  }
  block.push_back(std::move(branch));
  return ok();
}

Result<void> ThreadParser::parse_declaration(Block& block, size_t depth) {
  while (tokens_.peek().kind == Token::Kind::kName && is_type_word(tokens_.peek().text)) {
    tokens_.take();
  }
  do {
    ASSIGN_OR_RETURN(const std::string_view name, tokens_.expect_name("a name"));
    ASSIGN_OR_RETURN(const RegisterId target, declare_register(name));
    if (tokens_.accept("=")) RETURN_IF_ERROR(parse_assignment(block, target, depth));
  } while (tokens_.accept(","));
  return ok();
}

Result<void> ThreadParser::parse_assignment(Block& block, RegisterId target, size_t depth) {
  const size_t registers = thread_.registers.size();
  ASSIGN_OR_RETURN(Expression value, parse_expression(block, depth + 1));
  // An operation puts its value into the register itself; a temporary in between would hide it.
  const bool is_operation = value.kind == Expression::Kind::kRegister &&
                            static_cast<size_t>(value.value) == registers &&
                            thread_.registers.size() == registers + 1;
  if (is_operation) {
    Statement& operation = block.back();
    (operation.kind == Kind::kCompareExchange ? operation.success : operation.result) = target;
    thread_.registers.pop_back();
    return ok();
  }
  ASSIGN_OR_RETURN(Statement* const assignment, append(block, Kind::kAssign));
  assignment->result = target;
  assignment->operand = std::move(value);
  return ok();
}

Result<void> ThreadParser::parse_plain_store(Block& block, size_t depth) {
  tokens_.take();
  Statement store;
  RETURN_IF_ERROR(parse_address(store, block, depth));
  RETURN_IF_ERROR(tokens_.expect("="));
  ASSIGN_OR_RETURN(store.operand, parse_expression(block, depth + 1));
  ASSIGN_OR_RETURN(Statement* const appended, append(block, Kind::kStore));
  appended->order = is_atomic_[store.location] ? Order::kSeqCst : Order::kPlain;
  appended->location = store.location;
  appended->index = std::move(store.index);
  appended->operand = std::move(store.operand);
  return ok();
}

Result<void> ThreadParser::parse_call_statement(Block& block, size_t depth) {
  const size_t registers = thread_.registers.size();
  ASSIGN_OR_RETURN(const Expression value, parse_call(block, depth));
  const bool is_unused =
      thread_.registers.size() == registers + 1 && value.kind == Expression::Kind::kRegister;
  if (!is_unused) return ok();
  Statement& operation = block.back();
  (operation.kind == Kind::kCompareExchange ? operation.success : operation.result).reset();
  thread_.registers.pop_back();
  return ok();
}

Result<Expression> ThreadParser::parse_expression(Block& block, size_t depth,
                                                  int lowest_precedence) {
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  ASSIGN_OR_RETURN(Expression left, parse_unary(block, depth + 1));
  for (;;) {
    const Operator* const found = find_operator(tokens_.peek());
    if (found == nullptr || found->precedence < lowest_precedence) return left;
    tokens_.take();
    const uint32_t statements = statements_;
    ASSIGN_OR_RETURN(Expression right, parse_expression(block, depth + 1, found->precedence + 1));
    const bool is_conditional =
        found->kind == Expression::Kind::kLogicalAnd || found->kind == Expression::Kind::kLogicalOr;
    if (is_conditional && statements != statements_) {
      return tokens_.error(fmt::format("an operation on memory behind '{}'", found->symbol));
    }
    Expression both;
    both.kind = found->kind;
    both.operands.push_back(std::move(left));
    both.operands.push_back(std::move(right));
    left = std::move(both);
  }
}

Result<Expression> ThreadParser::parse_unary(Block& block, size_t depth) {
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  if (tokens_.accept("!")) {
    Expression result;
    result.kind = Expression::Kind::kLogicalNot;
    ASSIGN_OR_RETURN(Expression operand, parse_unary(block, depth + 1));
    result.operands.push_back(std::move(operand));
    return result;
  }
  if (tokens_.accept("-")) {
    Expression result;
    result.kind = Expression::Kind::kSubtract;
    ASSIGN_OR_RETURN(Expression operand, parse_unary(block, depth + 1));
    result.operands.push_back(Expression::constant(0));
    result.operands.push_back(std::move(operand));
    return result;
  }
  return parse_primary(block, depth + 1);
}

Result<Expression> ThreadParser::parse_primary(Block& block, size_t depth) {
  if (tokens_.accept("*")) return parse_plain_load(block, depth);
  if (tokens_.accept("(")) {
    ASSIGN_OR_RETURN(Expression inner, parse_expression(block, depth + 1));
    RETURN_IF_ERROR(tokens_.expect(")"));
    return inner;
  }
  if (tokens_.peek().kind == Token::Kind::kNumber) {
    return Expression::constant(tokens_.take().number);
  }
  if (tokens_.peek().kind == Token::Kind::kName) return parse_name(block, depth);
  return tokens_.unexpected("an expression");
}

Result<Expression> ThreadParser::parse_name(Block& block, size_t depth) {
  if (tokens_.peek_second().text == "(") {
    const uint32_t statements = statements_;
    ASSIGN_OR_RETURN(Expression value, parse_call(block, depth));
    if (statements == statements_ || !has_value(block.back().kind)) {
      return tokens_.error("that has no value");
    }
    return value;
  }
  const std::string_view name = tokens_.take().text;
  if (const std::optional<RegisterId> id = find_register(name)) {
    return Expression::of_register(*id);
  }
  if (find_location(name)) {
    return tokens_.error(fmt::format("'{}' is an address; its value is read by *{}", name, name));
  }
  return tokens_.error(fmt::format("'{}' is not declared", name));
}

Result<Expression> ThreadParser::parse_call(Block& block, size_t depth) {
  const std::string_view name = tokens_.peek().text;
  const bool is_explicit =
      name.size() > kExplicit.size() && name.substr(name.size() - kExplicit.size()) == kExplicit;
  const std::string_view plain_name =
      is_explicit ? name.substr(0, name.size() - kExplicit.size()) : name;
  Statement call;
  bool has_order = is_explicit;
  if (name == "atomic_thread_fence") {
    has_order = true;
  } else {
    const auto* const function =
        std::find_if(std::begin(kFunctions), std::end(kFunctions), [&](const Function& candidate) {
          return candidate.name == plain_name && (!is_explicit || candidate.has_explicit_form);
        });
    if (function == std::end(kFunctions)) {
      return tokens_.error(fmt::format("unknown function '{}'", name));
    }
    call.kind = function->kind;
    call.order = call.failure_order = function->order;
  }
  tokens_.take();
  RETURN_IF_ERROR(tokens_.expect("("));
  if (takes_address(call.kind)) RETURN_IF_ERROR(parse_address(call, block, depth));
  if (call.kind == Kind::kLock) call.operand = Expression::constant(1);
  if (call.kind == Kind::kCompareExchange) {
    RETURN_IF_ERROR(parse_expected_and_desired(call, block, depth));
  }
  if (takes_operand(call.kind)) {
    RETURN_IF_ERROR(tokens_.expect(","));
    ASSIGN_OR_RETURN(call.operand, parse_expression(block, depth + 1));
  }
  if (has_order) {
    if (takes_address(call.kind)) RETURN_IF_ERROR(tokens_.expect(","));
    ASSIGN_OR_RETURN(call.order, parse_order());
    if (call.kind == Kind::kCompareExchange) {
      RETURN_IF_ERROR(tokens_.expect(","));
      ASSIGN_OR_RETURN(call.failure_order, parse_order());
    }
  }
  RETURN_IF_ERROR(check_orders(call));
  RETURN_IF_ERROR(tokens_.expect(")"));
  ASSIGN_OR_RETURN(Statement* const appended, append(block, call.kind));
  call.line = appended->line;
  call.position = appended->position;
  *appended = std::move(call);
  if (!has_value(appended->kind)) return Expression::constant(0);
  return new_temporary(appended->kind == Kind::kCompareExchange ? appended->success
                                                                : appended->result);
}

Result<void> ThreadParser::parse_address(Statement& statement, Block& block, size_t depth) {
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  if (tokens_.accept("(")) {
    RETURN_IF_ERROR(parse_address(statement, block, depth + 1));
    return tokens_.expect(")");
  }
  const bool is_element = tokens_.accept("&");
  ASSIGN_OR_RETURN(const std::string_view name, tokens_.expect_name("the name of a location"));
  const std::optional<LocationId> location = find_location(name);
  if (!location) return tokens_.error(fmt::format("'{}' is not a location", name));
  statement.location = *location;
  if (is_element ? tokens_.accept("[") : tokens_.accept("+")) {
    ASSIGN_OR_RETURN(statement.index, parse_expression(block, depth + 1));
    if (is_element) RETURN_IF_ERROR(tokens_.expect("]"));
  }
  return ok();
}

Result<void> ThreadParser::parse_expected_and_desired(Statement& statement, Block& block,
                                                      size_t depth) {
  RETURN_IF_ERROR(tokens_.expect(","));
  RETURN_IF_ERROR(tokens_.expect("&"));
  ASSIGN_OR_RETURN(const std::string_view name, tokens_.expect_name("the expected value's name"));
  statement.result = find_register(name);
  if (!statement.result) {
    return tokens_.error(fmt::format("'{}' is not a variable of this thread", name));
  }
  statement.expected = Expression::of_register(*statement.result);
  RETURN_IF_ERROR(tokens_.expect(","));
  ASSIGN_OR_RETURN(statement.operand, parse_expression(block, depth + 1));
  return ok();
}

Result<Order> ThreadParser::parse_order() {
  struct Name {
    std::string_view name;
    Order order;
  };
  constexpr Name kOrders[] = {
      {"memory_order_relaxed", Order::kRelaxed}, {"memory_order_acquire", Order::kAcquire},
      {"memory_order_release", Order::kRelease}, {"memory_order_acq_rel", Order::kAcqRel},
      {"memory_order_seq_cst", Order::kSeqCst},  {"memory_order_consume", Order::kAcquire},
  };
  for (const Name& candidate : kOrders) {
    if (tokens_.accept(candidate.name)) return candidate.order;
  }
  return tokens_.unexpected("a memory order");
}

Result<void> ThreadParser::check_orders(const Statement& statement) const {
  const Order order = statement.order;
  const Order failure = statement.failure_order;
  const bool releases = order == Order::kRelease || order == Order::kAcqRel;
  const bool acquires = order == Order::kAcquire || order == Order::kAcqRel;
  if (statement.kind == Kind::kLoad && releases) return tokens_.error("a load cannot release");
  if (statement.kind == Kind::kStore && acquires) return tokens_.error("a store cannot acquire");
  const bool failure_releases = failure == Order::kRelease || failure == Order::kAcqRel;
  if (statement.kind == Kind::kCompareExchange && failure_releases) {
    return tokens_.error("a compare-exchange that fails cannot release");
  }
  return ok();
}

Result<Expression> ThreadParser::parse_plain_load(Block& block, size_t depth) {
  Statement load;
  RETURN_IF_ERROR(parse_address(load, block, depth));
  ASSIGN_OR_RETURN(Statement* const appended, append(block, Kind::kLoad));
  appended->order = is_atomic_[load.location] ? Order::kSeqCst : Order::kPlain;
  appended->location = load.location;
  appended->index = std::move(load.index);
  return new_temporary(appended->result);
}

Result<uint32_t> ThreadParser::next_position() {
  if (statements_ < kMaxStatements) return ++statements_;
  return tokens_.error(fmt::format("{} has more than {} statements", thread_.name, kMaxStatements));
}

Result<Statement*> ThreadParser::append(Block& block, Kind kind) {
  ASSIGN_OR_RETURN(const uint32_t position, next_position());
  Statement& statement = block.emplace_back();
  statement.kind = kind;
  statement.line = tokens_.peek().line;
  statement.position = position;
  return &statement;
}

Expression ThreadParser::new_temporary(std::optional<RegisterId>& slot) {
  slot = static_cast<RegisterId>(thread_.registers.size());
  thread_.registers.push_back(fmt::format("temporary {}", thread_.registers.size()));
  return Expression::of_register(*slot);
}

std::optional<LocationId> ThreadParser::find_location(std::string_view name) const {
  for (size_t i = 0; i < locations_.size(); ++i) {
    if (locations_[i].name == name) return static_cast<LocationId>(i);
  }
  return std::nullopt;
}

std::optional<RegisterId> ThreadParser::find_register(std::string_view name) const {
  for (size_t i = 0; i < thread_.registers.size(); ++i) {
    if (thread_.registers[i] == name) return static_cast<RegisterId>(i);
  }
  return std::nullopt;
}

Result<RegisterId> ThreadParser::declare_register(std::string_view name) {
  if (const std::optional<RegisterId> known = find_register(name)) return *known;
  if (find_location(name)) return tokens_.error(fmt::format("'{}' is a location", name));
  if (thread_.registers.size() == kMaxStatements) return tokens_.error("too many variables");
  thread_.registers.emplace_back(name);
  return static_cast<RegisterId>(thread_.registers.size() - 1);
}

}  // namespace imgconv::memory_model
