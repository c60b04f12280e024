#include "engine/json_name.h"

#include <fmt/format.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "loop/try.h"

namespace imgconv {
namespace {

using Json = nlohmann::json;

/// 'text' to "text", which is all the parser below knows.
std::string with_double_quotes(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0) {
      if (c == '\'' || c == '"') quote = c;
      result += c == '\'' ? '"' : c;
    } else if (c == '\\' && i + 1 < text.size()) {
      ++i;
      if (text[i] != '\'') result += '\\';
      result += text[i];
    } else if (c == quote) {
      quote = 0;
      result += '"';
    } else if (c == '"') {
      result += "\\\"";
    } else {
      result += c;
    }
  }
  return result;
}

/// The original's words for what is wrong, from what the library's text says.
std::string describe_syntax_error(std::string_view what) {
  const auto says = [what](std::string_view part) {
    return what.find(part) != std::string_view::npos;
  };
  // "unexpected end of input" contains what the second test looks for.
  if (says("unexpected end of input") || says("missing closing quote")) {
    return "JSON parse error, premature EOI";
  }
  if (says("expected end of input")) return "Expecting at most one JSON value";
  if (says("unexpected '}'")) return "JSON parse error, expecting value";
  if (says("object key")) return "JSON parse error, key is not a string in object";
  if (says("object separator")) return "JSON parse error, missing : in object pair";
  if (says("while parsing object")) return "JSON parse error, expected separator in dict";
  if (says("while parsing array")) return "JSON parse error, expected separator in list";
  return "JSON parse error, expecting value";
}

/// Collects every scalar under its dotted key while the library parses; builds no tree.
class Flattener final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return add({}); }
  bool boolean(bool value) override { return add({value ? "on" : "off", false}); }
  bool number_integer(number_integer_t value) override {
    return add({std::to_string(value), true});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return add({std::to_string(value), true});
  }
  bool number_float(number_float_t value, const string_t&) override {
    return add({fmt::format("{:.17g}", value), true});
  }
  bool string(string_t& value) override { return add({std::move(value), false}); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return enter(false); }
  bool end_object() override { return leave(); }
  bool start_array(std::size_t) override { return enter(true); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    levels_.back().key = levels_.back().prefix + name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    syntax_error_ = describe_syntax_error(error.what());
    return false;
  }

  const std::string& syntax_error() const { return syntax_error_; }
  bool is_object() const { return is_object_; }
  NameOptions take() { return std::move(options_); }

 private:
  struct Level {
    std::string prefix;
    std::string key;
    bool is_array = false;
    size_t next_index = 0;
  };

  std::string next_key() {
    Level& level = levels_.back();
    if (level.is_array) level.key = level.prefix + std::to_string(level.next_index++);
    return level.key;
  }
  bool add(NameValue value) {
    if (levels_.empty()) return true;
    options_[next_key()] = std::move(value);
    return true;
  }
  bool enter(bool is_array) {
    Level level;
    if (levels_.empty()) {
      is_object_ = !is_array;
    } else {
      level.prefix = next_key() + ".";
    }
    level.is_array = is_array;
    levels_.push_back(std::move(level));
    return true;
  }
  bool leave() {
    levels_.pop_back();
    return true;
  }

  NameOptions options_;
  std::vector<Level> levels_;
  bool is_object_ = false;
  std::string syntax_error_;
};

/// "read-only" or "noread-only".
std::pair<std::string, std::string> short_form(const std::string& piece, NameWarnings& warnings) {
  const bool is_off = piece.starts_with("no");
  std::pair<std::string, std::string> option(is_off ? piece.substr(2) : piece,
                                             is_off ? "off" : "on");
  warnings.push_back(
      fmt::format("short-form boolean option '{}' deprecated\nPlease use {}={} instead", piece,
                  option.first, option.second));
  return option;
}

}  // namespace

Result<NameOptions> parse_json_options(std::string_view text) {
  constexpr std::string_view kContext = "Could not parse the JSON options";
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return Error(EINVAL, "Expecting a JSON value").within(kContext);
  }
  Flattener flattener;
  if (!Json::sax_parse(with_double_quotes(text), &flattener)) {
    return Error(EINVAL, flattener.syntax_error()).within(kContext);
  }
  if (flattener.is_object()) return flattener.take();
  return Error(EINVAL, "Invalid JSON object given");
}

NameOptions parse_image_opts(std::string_view text, NameWarnings& warnings) {
  NameOptions options;
  size_t position = 0;
  while (position < text.size()) {
    const bool is_first = position == 0;
    std::string piece;
    for (; position < text.size(); ++position) {
      if (text[position] == ',') {
        if (text.substr(position, 2) != ",,") break;
        ++position;
      }
      piece += text[position];
    }
    ++position;
    const size_t equals = piece.find('=');
    if (equals != std::string::npos) {
      options[piece.substr(0, equals)] = {piece.substr(equals + 1), false};
    } else if (is_first) {
      options["file"] = {std::move(piece), false};
    } else {
      const auto [name, value] = short_form(piece, warnings);
      options[name] = {value, false};
    }
  }
  return options;
}

}  // namespace imgconv
