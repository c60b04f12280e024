#include "loop/memory_model/notation.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

namespace imgconv::memory_model {
namespace {

using Kind = Statement::Kind;

std::string_view symbol(Expression::Kind kind) {
  constexpr std::array<std::string_view, 14> kSymbols = {"",   "",   "+", "-",  "&",  "|",  "^",
                                                         "==", "!=", "<", "<=", "&&", "||", "!"};
  return kSymbols[static_cast<size_t>(kind)];
}

std::string_view name_of(Order order) {
  constexpr std::array<std::string_view, 7> kNames = {"plain",   "relaxed", "acquire", "release",
                                                      "acq_rel", "seq_cst", "__sync"};
  return kNames[static_cast<size_t>(order)];
}

std::string_view name_of(Kind kind) {
  constexpr std::array<std::string_view, 15> kNames = {"load",      "store",     "exchange",
                                                       "fetch_add", "fetch_sub", "fetch_or",
                                                       "fetch_and", "fetch_xor", "compare_exchange",
                                                       "fence",     "mb_set",    "lock",
                                                       "unlock",    "",          ""};
  return kNames[static_cast<size_t>(kind)];
}

class Lister {
 public:
  Lister(const Program& program, const Thread& thread) : program_(program), thread_(thread) {}

  std::vector<std::string> list() && {
    add(thread_.body, 0);
    return std::move(lines_);
  }

 private:
  void add(const std::vector<Statement>& block, size_t indent) {
    for (const Statement& statement : block) {
      const std::string blanks(indent, ' ');
      if (statement.kind != Kind::kIf) {
        lines_.push_back(blanks + to_text(statement));
        continue;
      }
      lines_.push_back(fmt::format("{}if {}", blanks, to_text(statement.operand)));
      add(statement.then_branch, indent + 2);
      if (statement.else_branch.empty()) continue;
      lines_.push_back(blanks + "else");
      add(statement.else_branch, indent + 2);
    }
  }

  std::string to_text(const Expression& expression, bool is_outermost = true) const {
    const std::vector<Expression>& operands = expression.operands;
    switch (expression.kind) {
      case Expression::Kind::kConstant:
        return fmt::format("{}", expression.value);
      case Expression::Kind::kRegister:
        return thread_.registers[static_cast<size_t>(expression.value)];
      case Expression::Kind::kLogicalNot:
        return "!" + to_text(operands[0], false);
      default: {
        const std::string text = fmt::format("{} {} {}", to_text(operands[0], false),
                                             symbol(expression.kind), to_text(operands[1], false));
        return is_outermost ? text : "(" + text + ")";
      }
    }
  }

  std::string address(const Statement& statement) const {
    std::string text = program_.locations[statement.location].name;
    const bool has_index = statement.index.kind != Expression::Kind::kConstant;
    if (has_index) text += " + " + to_text(statement.index, false);
    return text;
  }

  std::string to_text(const Statement& statement) const {
    const std::optional<RegisterId>& result =
        statement.kind == Kind::kCompareExchange ? statement.success : statement.result;
    const std::string target = result ? thread_.registers[*result] + " = " : std::string();
    const std::string_view name = name_of(statement.kind);
    const std::string_view order = name_of(statement.order);
    switch (statement.kind) {
      case Kind::kAssign:
        return target + to_text(statement.operand);
      case Kind::kLoad:
        return fmt::format("{}load({}, {})", target, address(statement), order);
      case Kind::kFence:
        return fmt::format("fence({})", order);
      case Kind::kLock:
      case Kind::kUnlock:
        return fmt::format("{}({})", name, address(statement));
      case Kind::kMbSet:
        return fmt::format("mb_set({}, {})", address(statement), to_text(statement.operand));
      case Kind::kCompareExchange:
        return fmt::format("{}compare_exchange({}, {} -> {}, {})", target, address(statement),
                           to_text(statement.expected), to_text(statement.operand), order);
      default:
        return fmt::format("{}{}({}, {}, {})", target, name, address(statement),
                           to_text(statement.operand), order);
    }
  }

  const Program& program_;
  const Thread& thread_;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> listing(const Program& program, const Thread& thread) {
  return Lister(program, thread).list();
}

std::string to_text(const Program& program, const Step& step) {
  if (step.kind == Step::Kind::kFence) return step.instruction;
  const std::string access =
      fmt::format("{} {}", step.instruction, program.locations[*step.location].name);
  switch (step.kind) {
    case Step::Kind::kRead:
      return fmt::format("{} -> {}", access, step.value_read);
    case Step::Kind::kWrite:
      return fmt::format("{} := {}", access, step.value_written);
    default:
      return fmt::format("{}: {} -> {}", access, step.value_read, step.value_written);
  }
}

}  // namespace imgconv::memory_model
