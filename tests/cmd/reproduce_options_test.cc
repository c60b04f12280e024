#include "cmd/reproduce_options.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

namespace imgconv {

namespace {

Result<ReproduceOptions> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "reproduce");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return parse_reproduce_arguments(Report("imgconv"), std::span(argv).first(words.size()));
}

std::string error_of(const std::vector<std::string>& words) {
  const Result<ReproduceOptions> options = parse(words);
  return options ? "" : options.error().text();
}

}  // namespace

TEST_CASE("reproduce: by default the shipped protocol converts on this machine", "[cmd]") {
  const ReproduceOptions options = parse({}).value();
  CHECK(options.protocol == "current");
  CHECK(options.memory == history::Memory::kNative);
  CHECK(options.level == ReproduceLevel::kConvert);
  CHECK_FALSE(options.iterations.has_value());
  CHECK(options.timeout_s == 60);
  CHECK(options.cold_stores == 0);
  CHECK_FALSE(options.pinning.has_value());
  CHECK_FALSE(options.convert.has_value());
  CHECK(options.output == OutputFormat::kHuman);
}

TEST_CASE("reproduce: a seed that is not given is another one each time", "[cmd]") {
  const uint64_t first = parse({}).value().seed;
  // One in four thousand million is the same.
  CHECK((parse({}).value().seed != first || parse({}).value().seed != first));
  CHECK(parse({"--seed", "18446744073709551615"}).value().seed == ~uint64_t{0});
}

TEST_CASE("reproduce: each option has its place", "[cmd]") {
  const ReproduceOptions options =
      parse({"--protocol=V3", "--memory=armv8", "--level", "handoff", "--iterations", "1000000",
             "--seed", "3", "--pin", "0,12", "--cold-stores", "32", "--max-delay", "100",
             "--requests", "16", "--output=json"})
          .value();
  CHECK(options.protocol == "V3");
  CHECK(options.memory == history::Memory::kArmv8);
  CHECK(options.level == ReproduceLevel::kHandoff);
  CHECK(options.iterations == 1'000'000);
  CHECK(options.seed == 3);
  REQUIRE(options.pinning.has_value());
  CHECK(options.pinning->loop_cpu == 0);
  CHECK(options.pinning->pool_cpu == 12);
  CHECK(options.cold_stores == 32);
  CHECK(options.max_delay == 100);
  CHECK(options.requests == 16);
  CHECK(options.output == OutputFormat::kJson);
  CHECK(parse({"--protocol", "all"}).value().protocol == "all");
  CHECK(parse({"--timeout", "7"}).value().timeout_s == 7);
}

TEST_CASE("reproduce: an option that would do nothing is refused", "[cmd]") {
  CHECK_FALSE(parse({"--level", "handoff", "--timeout", "7"}).has_value());
  CHECK_FALSE(parse({"--max-delay", "100"}).has_value());
  CHECK_FALSE(parse({"--requests", "2"}).has_value());
  CHECK_FALSE(parse({"--protocol", "all", "--memory", "native"}).has_value());
  CHECK(parse({"--protocol", "all", "--level", "handoff", "--requests", "2"}).has_value());
}

TEST_CASE("reproduce: a backing file is looked for beside the user's target", "[cmd]") {
  const auto backing_of = [](const std::string& backing, const std::string& target) {
    return parse({"--", "-O", "qcow2", "-F", "raw", "-B", backing, "a", target})
        .value()
        .convert->options.backing_file.value();
  };
  CHECK(backing_of("/base", "x") == "/base");
  CHECK(backing_of("base", "/folder/x") == "/folder/base");
  CHECK(backing_of("base", "folder/x") == std::filesystem::current_path() / "folder/base");
  CHECK(backing_of("base", "x") == std::filesystem::current_path() / "base");
}

TEST_CASE("reproduce: what follows '--' is the command line of a convert", "[cmd]") {
  const ReproduceOptions options =
      parse({"--iterations", "5", "--", "-f", "qcow2", "-O", "qcow2", "-m", "2", "a", "x"}).value();
  CHECK(options.iterations == 5);
  REQUIRE(options.convert.has_value());
  CHECK(options.convert->options.sources == std::vector<std::string>{"a"});
  CHECK(options.convert->options.target == "x");
  CHECK(options.convert->options.target_format == "qcow2");
  CHECK(options.convert->options.coroutines == 2);
}

TEST_CASE("reproduce: numbers out of range name the range", "[cmd]") {
  CHECK(error_of({"--iterations", "0"}) ==
        "Invalid number of iterations '0': a number from 1 to 1000000000000 is needed");
  CHECK(error_of({"--timeout", "86401"}) ==
        "Invalid timeout '86401': a number from 1 to 86400 is needed");
  CHECK(error_of({"--requests", "17"}) ==
        "Invalid number of requests '17': a number from 1 to 16 is needed");
  CHECK(error_of({"--cold-stores", "1001"}) ==
        "Invalid number '1001': a number from 0 to 1000 is needed");
  CHECK(error_of({"--pin", "0,1024"}) ==
        "Invalid processor '1024': a number from 0 to 1023 is needed");
  for (const char* const pinning : {"", "0", "0,", ",0", "0,1,2", "a,b"}) {
    CHECK(error_of({"--pin", pinning}).starts_with("Invalid processor "));
  }
}

TEST_CASE("reproduce: names that there are not name those there are", "[cmd]") {
  const Result<ReproduceOptions> options = parse({"--protocol", "V99"});
  REQUIRE_FALSE(options.has_value());
  CHECK(options.error().text() == "Unknown protocol 'V99'");
  CHECK(error_of({"--memory", "sparc"}) == "Invalid memory 'sparc': it is native or armv8");
  CHECK(error_of({"--level", "boot"}) == "Invalid level 'boot': it is convert or handoff");
}

TEST_CASE("reproduce: nothing that would write to the user's files is accepted", "[cmd]") {
  CHECK_FALSE(parse({"--", "-n", "a", "x"}).has_value());
  CHECK_FALSE(parse({"--", "-O", "qcow2", "-o", "data_file=d", "a", "x"}).has_value());
  CHECK_FALSE(parse({"--", "-O", "qcow2", "-o", "compat=1.1,data_file=d", "a", "x"}).has_value());
  CHECK_FALSE(parse({"--", "a"}).has_value());
  CHECK_FALSE(parse({"--", "--help"}).has_value());
  CHECK_FALSE(parse({"a"}).has_value());
  CHECK_FALSE(parse({"--level", "handoff", "--", "a", "x"}).has_value());
}

}  // namespace imgconv
