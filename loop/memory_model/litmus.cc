#include "loop/memory_model/litmus.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loop/memory_model/litmus_lexer.h"
#include "loop/memory_model/litmus_thread.h"
#include "loop/try.h"

namespace imgconv::memory_model {
namespace {

constexpr size_t kMaxSourceBytes = 64 * 1024;

class LitmusParser {
 public:
  /// `source` without its head, and its tokens.
  LitmusParser(std::string_view source, std::vector<Token> tokens)
      : source_(source), tokens_(std::move(tokens)) {}

  Result<Program> parse() && {
    RETURN_IF_ERROR(parse_initial_state());
    while (tokens_.peek().kind == Token::Kind::kName && tokens_.peek_second().text == "(" &&
           tokens_.peek().text.front() == 'P') {
      RETURN_IF_ERROR(parse_thread());
    }
    if (program_.threads.empty()) return tokens_.unexpected("'P0 ('");
    if (tokens_.accept("locations")) RETURN_IF_ERROR(skip_locations());
    RETURN_IF_ERROR(parse_condition());
    if (tokens_.peek().kind != Token::Kind::kEnd) return tokens_.unexpected("the end");
    return std::move(program_);
  }

 private:
  Result<void> parse_initial_state();
  Result<void> parse_thread();
  Result<void> parse_parameter();
  Result<void> skip_locations();

  Result<void> parse_condition();
  Result<Condition> parse_disjunction(size_t depth);
  Result<Condition> parse_conjunction(size_t depth);
  Result<Condition> parse_negation(size_t depth);
  Result<Condition> parse_equality();

  Result<LocationId> declare_location(std::string_view name);
  std::optional<LocationId> find_location(std::string_view name) const;

  std::string_view source_;
  TokenStream tokens_;
  Program program_;
  std::vector<bool> is_atomic_;
};

/// { x = 0; atomic_int y = 1; [z] = 2; int* t; }
Result<void> LitmusParser::parse_initial_state() {
  RETURN_IF_ERROR(tokens_.expect("{"));
  while (!tokens_.accept("}")) {
    if (tokens_.accept(";")) continue;
    const bool is_bracketed = tokens_.accept("[");
    if (tokens_.peek().kind == Token::Kind::kNumber) {
      return tokens_.error("variables of a thread start at 0 and cannot be set here");
    }
    ASSIGN_OR_RETURN(std::string_view name, tokens_.expect_name("a location"));
    while (tokens_.accept("*") || tokens_.peek().kind == Token::Kind::kName) {
      if (tokens_.peek().kind == Token::Kind::kName) name = tokens_.take().text;
    }
    if (is_bracketed) RETURN_IF_ERROR(tokens_.expect("]"));
    ASSIGN_OR_RETURN(const LocationId location, declare_location(name));
    if (tokens_.accept("=")) {
      ASSIGN_OR_RETURN(program_.locations[location].initial, tokens_.expect_number());
    }
    if (!tokens_.is_at("}")) RETURN_IF_ERROR(tokens_.expect(";"));
  }
  return ok();
}

/// P0 (atomic_int* x, int* y) { ... }
Result<void> LitmusParser::parse_thread() {
  Thread thread;
  thread.name = fmt::format("P{}", program_.threads.size());
  RETURN_IF_ERROR(tokens_.expect(thread.name));
  if (program_.threads.size() == kMaxThreads) {
    return tokens_.error(fmt::format("more than {} threads", kMaxThreads));
  }
  RETURN_IF_ERROR(tokens_.expect("("));
  if (!tokens_.accept(")")) {
    do {
      RETURN_IF_ERROR(parse_parameter());
    } while (tokens_.accept(","));
    RETURN_IF_ERROR(tokens_.expect(")"));
  }
  RETURN_IF_ERROR(ThreadParser(tokens_, program_.locations, is_atomic_, thread).parse());
  program_.threads.push_back(std::move(thread));
  return ok();
}

Result<void> LitmusParser::parse_parameter() {
  std::string_view name;
  bool is_pointer = false;
  bool is_atomic = false;
  while (tokens_.peek().kind == Token::Kind::kName || tokens_.is_at("*")) {
    const std::string_view word = tokens_.take().text;
    is_pointer = is_pointer || word == "*";
    is_atomic = is_atomic || word.find("atomic") != std::string_view::npos ||
                word.find("Atomic") != std::string_view::npos || word == "mtx_t";
    if (word != "*") name = word;
  }
  if (!is_pointer || name.empty()) return tokens_.unexpected("a parameter such as 'atomic_int* x'");
  ASSIGN_OR_RETURN(const LocationId location, declare_location(name));
  if (is_atomic) is_atomic_[location] = true;
  return ok();
}

/// locations [x; y;]: what herd prints; we print all.
Result<void> LitmusParser::skip_locations() {
  RETURN_IF_ERROR(tokens_.expect("["));
  while (tokens_.peek().kind != Token::Kind::kEnd && !tokens_.accept("]")) tokens_.take();
  return ok();
}

Result<void> LitmusParser::parse_condition() {
  if (tokens_.accept("forall")) {
    program_.quantifier = Quantifier::kForAll;
  } else if (tokens_.accept("~")) {
    RETURN_IF_ERROR(tokens_.expect("exists"));
    program_.quantifier = Quantifier::kNotExists;
  } else if (!tokens_.accept("exists")) {
    return tokens_.unexpected("'exists', '~exists' or 'forall'");
  }
  const char* const begin = tokens_.peek().text.data();
  ASSIGN_OR_RETURN(program_.condition, parse_disjunction(0));
  const Token& end = tokens_.peek();
  std::string_view text = source_.substr(static_cast<size_t>(begin - source_.data()));
  if (end.kind != Token::Kind::kEnd)
    text = text.substr(0, static_cast<size_t>(end.text.data() - begin));
  for (const char c : text) {
    const bool is_blank = c == ' ' || (c >= '\t' && c <= '\r');
    std::string& kept = program_.condition_text;
    if (is_blank && (kept.empty() || kept.back() == ' ')) continue;
    kept.push_back(is_blank ? ' ' : c);
  }
  while (!program_.condition_text.empty() && program_.condition_text.back() == ' ') {
    program_.condition_text.pop_back();
  }
  return ok();
}

Result<Condition> LitmusParser::parse_disjunction(size_t depth) {
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  Condition result;
  result.kind = Condition::Kind::kOr;
  do {
    ASSIGN_OR_RETURN(Condition operand, parse_conjunction(depth + 1));
    result.operands.push_back(std::move(operand));
  } while (tokens_.accept("\\/"));
  return result;
}

Result<Condition> LitmusParser::parse_conjunction(size_t depth) {
  Condition result;
  result.kind = Condition::Kind::kAnd;
  do {
    ASSIGN_OR_RETURN(Condition operand, parse_negation(depth + 1));
    result.operands.push_back(std::move(operand));
  } while (tokens_.accept("/\\"));
  return result;
}

Result<Condition> LitmusParser::parse_negation(size_t depth) {
  if (depth > kMaxNesting) return tokens_.error("nested too deeply");
  if (tokens_.accept("~") || tokens_.accept("not")) {
    Condition result;
    result.kind = Condition::Kind::kNot;
    ASSIGN_OR_RETURN(Condition operand, parse_negation(depth + 1));
    result.operands.push_back(std::move(operand));
    return result;
  }
  if (tokens_.accept("(")) {
    ASSIGN_OR_RETURN(Condition result, parse_disjunction(depth + 1));
    RETURN_IF_ERROR(tokens_.expect(")"));
    return result;
  }
  if (tokens_.accept("true")) return Condition{};
  return parse_equality();
}

/// 0:r0=1, x=1 or [x]=1.
Result<Condition> LitmusParser::parse_equality() {
  Condition result;
  if (tokens_.peek().kind == Token::Kind::kNumber) {
    ASSIGN_OR_RETURN(const int64_t thread, tokens_.expect_number());
    if (static_cast<uint64_t>(thread) >= program_.threads.size()) {
      return tokens_.error(fmt::format("there is no thread {}", thread));
    }
    RETURN_IF_ERROR(tokens_.expect(":"));
    ASSIGN_OR_RETURN(const std::string_view name, tokens_.expect_name("a variable"));
    result.kind = Condition::Kind::kRegisterEquals;
    result.thread = static_cast<uint32_t>(thread);
    const std::vector<std::string>& registers = program_.threads[result.thread].registers;
    const auto found = std::find(registers.begin(), registers.end(), name);
    if (found == registers.end()) {
      return tokens_.error(fmt::format("P{} has no variable '{}'", thread, name));
    }
    result.subject = static_cast<uint32_t>(found - registers.begin());
  } else {
    const bool is_bracketed = tokens_.accept("[");
    ASSIGN_OR_RETURN(const std::string_view name, tokens_.expect_name("a location or '0:r0'"));
    const std::optional<LocationId> location = find_location(name);
    if (!location) return tokens_.error(fmt::format("'{}' is not a location", name));
    if (is_bracketed) RETURN_IF_ERROR(tokens_.expect("]"));
    result.kind = Condition::Kind::kLocationEquals;
    result.subject = *location;
  }
  if (!tokens_.accept("==")) RETURN_IF_ERROR(tokens_.expect("="));
  ASSIGN_OR_RETURN(result.value, tokens_.expect_number());
  return result;
}

Result<LocationId> LitmusParser::declare_location(std::string_view name) {
  if (const std::optional<LocationId> known = find_location(name)) return *known;
  if (program_.locations.size() == kMaxLocations) {
    return tokens_.error(fmt::format("more than {} locations", kMaxLocations));
  }
  program_.locations.push_back({std::string(name), 0});
  is_atomic_.push_back(false);
  return static_cast<LocationId>(program_.locations.size() - 1);
}

std::optional<LocationId> LitmusParser::find_location(std::string_view name) const {
  for (size_t i = 0; i < program_.locations.size(); ++i) {
    if (program_.locations[i].name == name) return static_cast<LocationId>(i);
  }
  return std::nullopt;
}

}  // namespace

Result<Program> parse_litmus(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return Error(E2BIG, fmt::format("a litmus test of more than {} bytes", kMaxSourceBytes));
  }
  // The head is no C: a name of any characters, such as "2+2W", then descriptions and properties
  // for the tools that made the test, up to the initial state.
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = std::min(source.find_first_not_of(kBlanks), source.size());
  const std::string_view head = source.substr(begin, source.find('{', begin) - begin);
  if (head.size() < 2 || head[0] != 'C' || kBlanks.find(head[1]) == std::string_view::npos) {
    return Error(EINVAL, "line 1: expected 'C NAME', the head of a litmus test in C");
  }
  const std::string_view first_line = head.substr(2, head.find('\n') - 2);
  const std::string_view body = source.substr(begin + head.size());
  const auto lines =
      std::count(source.begin(), source.end() - static_cast<std::ptrdiff_t>(body.size()), '\n');
  ASSIGN_OR_RETURN(std::vector<Token> tokens, tokenize(body, static_cast<uint32_t>(lines) + 1));
  ASSIGN_OR_RETURN(Program program, LitmusParser(body, std::move(tokens)).parse());
  const size_t last = first_line.find_last_not_of(kBlanks);
  program.name = last == std::string_view::npos ? "" : first_line.substr(0, last + 1);
  return program;
}

}  // namespace imgconv::memory_model
