// Words of a litmus test, and the place of a parser among them. Internal to the parser; pure, any
// thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "loop/result.h"

namespace imgconv::memory_model {

struct Token {
  enum class Kind : uint8_t { kName, kNumber, kString, kSymbol, kEnd };

  Kind kind = Kind::kEnd;
  /// Into the source.
  std::string_view text;
  int64_t number = 0;
  uint32_t line = 1;
};

/// Without blanks and comments ((* *), /* */, //); the last token is kEnd. Views into `source`,
/// which begins in the line `first_line`.
Result<std::vector<Token>> tokenize(std::string_view source, uint32_t first_line);

class TokenStream {
 public:
  /// Requires: the last token is kEnd.
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek() const { return tokens_[next_]; }
  /// The one behind peek(); the last token stays where it is.
  const Token& peek_second() const;
  const Token& take();

  bool is_at(std::string_view text) const { return is_word(peek(), text); }
  /// Takes it if it is there.
  bool accept(std::string_view text);
  /// "line 3: expected ';' but found 'x'".
  Result<void> expect(std::string_view text);
  Result<std::string_view> expect_name(std::string_view what);
  /// With an optional minus sign.
  Result<int64_t> expect_number();

  /// At the line of the next token.
  Error error(std::string_view what) const;
  Error unexpected(std::string_view expected) const;

 private:
  static bool is_word(const Token& token, std::string_view text) {
    return token.kind != Token::Kind::kString && token.kind != Token::Kind::kEnd &&
           token.text == text;
  }

  std::vector<Token> tokens_;
  size_t next_ = 0;
};

}  // namespace imgconv::memory_model
