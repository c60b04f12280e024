#include "cmd/option_parser.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

namespace imgconv {

namespace {

constexpr int kOutputKey = kFirstLongOnlyKey;
constexpr int kVerifyKey = kOutputKey + 1;
constexpr OptionDef kTable[] = {
    {'f', {"format", "source-format"}, "FMT", ""},
    {'p', {}, nullptr, ""},
    {'q', {"quiet"}, nullptr, ""},
    {kOutputKey, {"output"}, "FORM", "", 1},
    {'O', {"options", "output-format"}, "FMT", ""},
    {kVerifyKey, {"verify"}, nullptr, "", 1},
    {'v', {"verbose"}, nullptr, ""},
    {'x', {"same-prefix"}, nullptr, "", 1},
    {'y', {"same-word"}, nullptr, "", 1},
};

/// What was parsed, in a form that compares and prints well: "f=raw", "p=".
struct Parsed {
  std::vector<std::string> options;
  std::vector<std::string> operands;
  std::string error;
  std::string hint;
  bool wants_help = false;
};

Parsed parse(std::vector<std::string> words, OperandOrder order = OperandOrder::kPermute) {
  words.insert(words.begin(), "command");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const Report report("/usr/bin/qemu-img");
  Parsed parsed;
  const Result<Arguments> arguments = parse_arguments(
      report, kTable, std::span(argv).first(words.size()),
      [&parsed](int key, const std::string& value) {
        const std::string name = key == kOutputKey   ? "output"
                                 : key == kVerifyKey ? "verify"
                                                     : std::string(1, static_cast<char>(key));
        parsed.options.push_back(name + "=" + value);
        return ok();
      },
      order);
  if (!arguments) {
    parsed.error = arguments.error().text();
    parsed.hint = arguments.error().hint();
    return parsed;
  }
  parsed.operands = arguments->operands;
  parsed.wants_help = arguments->wants_help;
  return parsed;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("options: values may be attached or follow", "[cmd]") {
  CHECK(parse({"-fqcow2", "-f", "raw"}).options == Strings{"f=qcow2", "f=raw"});
  CHECK(parse({"--output=json", "--output", "human"}).options ==
        Strings{"output=json", "output=human"});
}

TEST_CASE("options: every long name of an option means the same", "[cmd]") {
  CHECK(parse({"--format=a", "--source-format=b"}).options == Strings{"f=a", "f=b"});
}

TEST_CASE("options: letters may be bundled and long names shortened", "[cmd]") {
  CHECK(parse({"-pqfraw"}).options == Strings{"p=", "q=", "f=raw"});
  CHECK(parse({"--qui"}).options == Strings{"q="});
}

TEST_CASE("options: a prefix that fits one of upstream's options is no other", "[cmd]") {
  CHECK(parse({"--o=json"}).options == Strings{"output=json"});
  CHECK(parse({"a", "--out", "json", "b", "--ver"}).options == Strings{"output=json", "verify="});
  CHECK(parse({"a", "--out", "json", "b", "--ver"}).operands == Strings{"a", "b"});
  CHECK(parse({"--opt=x"}).options == Strings{"O=x"});
}

TEST_CASE("options: a prefix of several of upstream's options is unknown", "[cmd]") {
  CHECK(parse({"--same"}).error == "unrecognized option '--same'");
  CHECK(parse({"--same", "-Zp"}).error == "unrecognized option '--same'");
}

TEST_CASE("options: a prefix of upstream's has the same need of a value", "[cmd]") {
  CHECK(parse({"--o"}).error == "missing argument for option '--o'");
  CHECK(parse({"--ver=x"}).error == "unrecognized option '--ver=x'");
  CHECK(parse({"--ver", "-Zp"}).error == "unrecognized option '--ver'");
}

TEST_CASE("options: they may follow operands, and -- ends them", "[cmd]") {
  const Parsed parsed = parse({"a", "-p", "b", "--", "-q"});
  CHECK(parsed.options == Strings{"p="});
  CHECK(parsed.operands == Strings{"a", "b", "-q"});
}

TEST_CASE("options: global ones end at the first operand", "[cmd]") {
  const Parsed parsed = parse({"-p", "info", "-q"}, OperandOrder::kStopAtFirst);
  CHECK(parsed.options == Strings{"p="});
  CHECK(parsed.operands == Strings{"info", "-q"});
}

TEST_CASE("options: an unknown one is named, with a hint under the program's name", "[cmd]") {
  CHECK(parse({"-Z", "x"}).error == "unrecognized option '-Z'");
  CHECK(parse({"--foo", "x"}).error == "unrecognized option '--foo'");
  CHECK(parse({"-Z"}).hint == "Try 'qemu-img --help' for more information");
}

TEST_CASE("options: an unknown letter inside a bundle names the word scanned last", "[cmd]") {
  CHECK(parse({"-pZ"}).error == "unrecognized option '-pZ'");
  CHECK(parse({"-Zp"}).error == "unrecognized option 'command'");
}

TEST_CASE("options: a missing value is not an unknown option", "[cmd]") {
  CHECK(parse({"x", "-f"}).error == "missing argument for option '-f'");
  CHECK(parse({"--output"}).error == "missing argument for option '--output'");
}

TEST_CASE("options: help wins over what follows, not over what precedes", "[cmd]") {
  CHECK(parse({"-h", "-Z"}).wants_help);
  CHECK(parse({"--help"}).wants_help);
  CHECK(parse({"-Z", "-h"}).error == "unrecognized option '-Z'");
}

TEST_CASE("options: the handler's error ends the parsing", "[cmd]") {
  std::string command = "command";
  std::string option = "-p";
  std::vector<char*> argv = {command.data(), option.data(), option.data()};
  int calls = 0;
  const Result<Arguments> arguments =
      parse_arguments(Report("x"), kTable, argv, [&calls](int, const std::string&) -> Result<void> {
        ++calls;
        return Error(EINVAL, "no");
      });
  REQUIRE_FALSE(arguments);
  CHECK(arguments.error().text() == "no");
  CHECK(calls == 1);
}

}  // namespace imgconv
