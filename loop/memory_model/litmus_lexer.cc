#include "loop/memory_model/litmus_lexer.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include "loop/try.h"

namespace imgconv::memory_model {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\f\v";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

class Lexer {
 public:
  Lexer(std::string_view source, uint32_t first_line) : rest_(source), line_(first_line) {}

  Result<std::vector<Token>> run() && {
    std::vector<Token> tokens;
    for (;;) {
      RETURN_IF_ERROR(skip_blanks());
      ASSIGN_OR_RETURN(const Token token, next());
      tokens.push_back(token);
      if (token.kind == Token::Kind::kEnd) return tokens;
    }
  }

 private:
  Error error(std::string_view what) const {
    return Error(EINVAL, fmt::format("line {}: {}", line_, what));
  }

  bool starts_with(std::string_view prefix) const {
    return rest_.substr(0, prefix.size()) == prefix;
  }

  std::string_view take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    for (const char c : taken) line_ += c == '\n' ? 1 : 0;
    rest_.remove_prefix(size);
    return taken;
  }

  Result<void> skip_blanks() {
    for (;;) {
      const size_t blanks = rest_.find_first_not_of(kBlanks);
      take(blanks == std::string_view::npos ? rest_.size() : blanks);
      std::string_view end;
      // "(*x == 1)" is C.
      if (starts_with("(* ") || starts_with("(**") || starts_with("(*\n")) end = "*)";
      if (starts_with("/*")) end = "*/";
      if (starts_with("//")) end = "\n";
      if (end.empty()) return ok();
      const size_t size = rest_.find(end, 2);
      if (size == std::string_view::npos && end != "\n") return error("a comment does not end");
      take(size == std::string_view::npos ? rest_.size() : size + end.size());
    }
  }

  Result<Token> next() {
    Token token;
    token.line = line_;
    token.text = rest_;
    if (rest_.empty()) return token;
    const char first = rest_.front();
    size_t size = 1;
    if (is_name_start(first)) {
      token.kind = Token::Kind::kName;
      while (size < rest_.size() && is_name_part(rest_[size])) ++size;
    } else if (is_digit(first)) {
      token.kind = Token::Kind::kNumber;
      while (size < rest_.size() && is_name_part(rest_[size])) ++size;
      ASSIGN_OR_RETURN(token.number, parse_number(rest_.substr(0, size)));
    } else if (first == '"') {
      token.kind = Token::Kind::kString;
      size = rest_.find('"', 1);
      if (size == std::string_view::npos) return error("a string does not end");
      ++size;
    } else {
      token.kind = Token::Kind::kSymbol;
      ASSIGN_OR_RETURN(size, symbol_size());
    }
    token.text = take(size);
    return token;
  }

  Result<int64_t> parse_number(std::string_view text) const {
    const bool is_hex = text.substr(0, 2) == "0x" || text.substr(0, 2) == "0X";
    const std::string_view digits = is_hex ? text.substr(2) : text;
    int64_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stopped, failure] = std::from_chars(digits.data(), end, value, is_hex ? 16 : 10);
    if (failure != std::errc() || stopped != end) {
      return error(fmt::format("'{}' is not a number of 64 bits", text));
    }
    return value;
  }

  Result<size_t> symbol_size() const {
    constexpr std::array<std::string_view, 9> kLong = {
        "/\\", "\\/", "==", "!=", "<=", ">=", "&&", "||", "->"};
    for (const std::string_view symbol : kLong) {
      if (starts_with(symbol)) return symbol.size();
    }
    constexpr std::string_view kShort = "(){}[];,:=+-&|^!~*<>";
    if (kShort.find(rest_.front()) != std::string_view::npos) return size_t{1};
    const char c = rest_.front();
    if (c > ' ' && c <= '~') return error(fmt::format("unexpected character '{}'", c));
    return error(fmt::format("unexpected byte 0x{:02x}", static_cast<unsigned char>(c)));
  }

  std::string_view rest_;
  uint32_t line_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source, uint32_t first_line) {
  return Lexer(source, first_line).run();
}

const Token& TokenStream::peek_second() const {
  return next_ + 1 < tokens_.size() ? tokens_[next_ + 1] : tokens_.back();
}

const Token& TokenStream::take() {
  const Token& token = tokens_[next_];
  if (next_ + 1 < tokens_.size()) ++next_;
  return token;
}

bool TokenStream::accept(std::string_view text) {
  if (!is_at(text)) return false;
  take();
  return true;
}

Result<void> TokenStream::expect(std::string_view text) {
  if (accept(text)) return ok();
  return unexpected(fmt::format("'{}'", text));
}

Result<std::string_view> TokenStream::expect_name(std::string_view what) {
  if (peek().kind != Token::Kind::kName) return unexpected(what);
  return take().text;
}

Result<int64_t> TokenStream::expect_number() {
  const bool is_negative = accept("-");
  if (peek().kind != Token::Kind::kNumber) return unexpected("a number");
  const int64_t number = take().number;
  return is_negative ? -number : number;
}

Error TokenStream::error(std::string_view what) const {
  return Error(EINVAL, fmt::format("line {}: {}", peek().line, what));
}

Error TokenStream::unexpected(std::string_view expected) const {
  if (peek().kind == Token::Kind::kEnd) {
    return error(fmt::format("expected {} but the text ends", expected));
  }
  return error(fmt::format("expected {} but found '{}'", expected, peek().text));
}

}  // namespace imgconv::memory_model
