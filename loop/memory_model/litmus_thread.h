// The body of one thread of a litmus test: a subset of C. Internal to the parser; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "loop/memory_model/litmus_lexer.h"
#include "loop/memory_model/program.h"
#include "loop/result.h"

namespace imgconv::memory_model {

/// Our limits; protocols need a tenth of them.
inline constexpr size_t kMaxThreads = 4;
inline constexpr size_t kMaxLocations = 16;
inline constexpr size_t kMaxStatements = 64;  ///< Of one thread.
inline constexpr size_t kMaxNesting = 32;     ///< Of blocks, expressions and conditions.

class ThreadParser {
 public:
  /// `is_atomic`: by LocationId; accesses by `*x` are seq_cst if so, as in C, else plain.
  /// All arguments must outlive this.
  ThreadParser(TokenStream& tokens, const std::vector<Location>& locations,
               const std::vector<bool>& is_atomic, Thread& thread)
      : tokens_(tokens), locations_(locations), is_atomic_(is_atomic), thread_(thread) {}

  /// "{ ... }": fills in registers and body.
  Result<void> parse();

 private:
  using Block = std::vector<Statement>;

  Result<void> parse_block(Block& block, size_t depth);
  Result<void> parse_statement(Block& block, size_t depth);
  Result<void> parse_if(Block& block, size_t depth);
  Result<void> parse_declaration(Block& block, size_t depth);
  Result<void> parse_assignment(Block& block, RegisterId target, size_t depth);
  Result<void> parse_plain_store(Block& block, size_t depth);
  Result<void> parse_call_statement(Block& block, size_t depth);

  Result<Expression> parse_expression(Block& block, size_t depth, int lowest_precedence = 0);
  Result<Expression> parse_unary(Block& block, size_t depth);
  Result<Expression> parse_primary(Block& block, size_t depth);
  Result<Expression> parse_name(Block& block, size_t depth);

  /// An operation on shared memory, appended to `block`; its value is the register it is put in.
  Result<Expression> parse_call(Block& block, size_t depth);
  Result<void> parse_address(Statement& statement, Block& block, size_t depth);
  Result<void> parse_expected_and_desired(Statement& statement, Block& block, size_t depth);
  Result<Order> parse_order();
  Result<void> check_orders(const Statement& statement) const;
  Result<Expression> parse_plain_load(Block& block, size_t depth);

  Result<uint32_t> next_position();
  Result<Statement*> append(Block& block, Statement::Kind kind);
  Expression new_temporary(std::optional<RegisterId>& slot);

  std::optional<LocationId> find_location(std::string_view name) const;
  std::optional<RegisterId> find_register(std::string_view name) const;
  Result<RegisterId> declare_register(std::string_view name);

  TokenStream& tokens_;
  const std::vector<Location>& locations_;
  const std::vector<bool>& is_atomic_;
  Thread& thread_;
  /// How many there are so far.
  uint32_t statements_ = 0;
};

}  // namespace imgconv::memory_model
