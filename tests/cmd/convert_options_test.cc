#include "cmd/convert_options.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

namespace imgconv {

namespace {

Result<ConvertArguments> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "convert");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Result<ConvertArguments> arguments =
      parse_convert_arguments(Report("qemu-img"), std::span(argv).first(words.size()));
  if (!arguments) return arguments;
  const Result<void> resolved = resolve_cache_modes(*arguments);
  if (!resolved) return resolved.error();
  return arguments;
}

std::string error_of(const std::vector<std::string>& words) {
  const Result<ConvertArguments> arguments = parse(words);
  return arguments ? "" : arguments.error().text();
}

}  // namespace

TEST_CASE("convert: the last name is the target, all others are sources", "[cmd]") {
  const ConvertOptions options = parse({"a", "b", "c"}).value().options;
  CHECK(options.sources == std::vector<std::string>{"a", "b"});
  CHECK(options.target == "c");
  CHECK(error_of({"a"}) == "Must specify image file name");
}

TEST_CASE("convert: the defaults are those of qemu-img", "[cmd]") {
  const ConvertOptions options = parse({"a", "b"}).value().options;
  CHECK(options.target_format == "raw");
  CHECK(options.sparse_size == 4096);
  CHECK(options.coroutines == 8);
  CHECK(options.source_cache == CacheMode::kWriteback);
  CHECK(options.target_cache == CacheMode::kUnsafe);
}

TEST_CASE("convert: long names of Debian's parser are understood", "[cmd]") {
  const ConvertOptions options =
      parse({"--source-format=raw", "--target-format=qcow2", "--compress", "--parallel=3",
             "--sparse-size=64k", "--target-cache=none", "a", "b"})
          .value()
          .options;
  CHECK(options.source_format == "raw");
  CHECK(options.target_format == "qcow2");
  CHECK(options.compress);
  CHECK(options.coroutines == 3);
  CHECK(options.sparse_size == 65536);
  CHECK(options.target_cache == CacheMode::kNone);
}

TEST_CASE("convert: several -o are joined by commas", "[cmd]") {
  CHECK(parse({"-o", "a=1", "-o", "b=2", "x", "y"}).value().options.target_options == "a=1,b=2");
  CHECK(error_of({"-o", ",", "x", "y"}) == "Invalid option list: ,");
}

TEST_CASE("convert: -o help needs no names", "[cmd]") {
  CHECK(parse({"-O", "qcow2", "-o", "help"}).value().wants_creation_options_help);
}

TEST_CASE("convert: a hole is a multiple of a sector and at most 16 MiB", "[cmd]") {
  CHECK(parse({"-S", "16M", "a", "b"}).value().options.sparse_size == 16777216);
  CHECK(parse({"-S", "0", "a", "b"}).value().options.sparse_size == 0);
  for (const char* size : {"1000", "17M"}) {
    CHECK(error_of({"-S", size, "a", "b"}).rfind("Invalid buffer size for sparse output", 0) == 0);
  }
}

TEST_CASE("convert: between 1 and 16 requests are in flight", "[cmd]") {
  CHECK(parse({"-m", "16", "a", "b"}).value().options.coroutines == 16);
  for (const char* count : {"0", "17", "x", "", "4x"}) {
    CAPTURE(count);
    CHECK(error_of({"-m", count, "a", "b"}) ==
          "Invalid number of coroutines. Allowed number of coroutines is between 1 and 16");
  }
}

TEST_CASE("convert: options that exclude each other are refused", "[cmd]") {
  CHECK(error_of({"--skip-broken-bitmaps", "a", "b"}) ==
        "Use of --skip-broken-bitmaps requires --bitmaps");
  CHECK(error_of({"-C", "-c", "a", "b"}) == "Cannot enable copy offloading when -c is used");
  CHECK(error_of({"-C", "-S", "0", "a", "b"}) == "Cannot enable copy offloading when -S is used");
  CHECK(error_of({"-C", "--salvage", "a", "b"}) == "Cannot use copy offloading in salvaging mode");
  CHECK(error_of({"--target-image-opts", "a", "b"}) ==
        "--target-image-opts requires use of -n flag");
  CHECK(error_of({"-n", "-o", "x=y", "a", "b"}) == "-o has no effect when skipping image creation");
  CHECK(error_of({"--target-is-zero", "a", "b"}) == "--target-is-zero requires use of -n flag");
}

TEST_CASE("convert: an unknown cache mode is refused by the side it is for", "[cmd]") {
  CHECK(error_of({"-t", "foo", "a", "b"}) == "Invalid cache option: foo");
  CHECK(error_of({"-T", "foo", "a", "b"}) == "Invalid source cache option: foo");
}

TEST_CASE("convert: bitmaps are copied when asked for", "[cmd]") {
  CHECK_FALSE(parse({"a", "b"}).value().options.bitmaps);
  const ConvertOptions options = parse({"--bitmaps", "--skip-broken", "a", "b"}).value().options;
  CHECK(options.bitmaps);
  CHECK(options.skip_broken_bitmaps);
}

}  // namespace imgconv
