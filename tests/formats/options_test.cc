#include "formats/options.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "tests/support/matchers.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::IsOk;

const OptionList kList = {
    {"size", OptionType::kSize, "Virtual disk size", {}},
    {"cluster_size", OptionType::kSize, "qcow2 cluster size", "65536"},
    {"refcount_bits", OptionType::kNumber, "Width of a reference count entry in bits", "16"},
    {"lazy_refcounts", OptionType::kBool, "Postpone refcount updates", "off"},
    {"data_file", OptionType::kString, "File name of an external data file", {}},
};

constexpr const char* kNotASize = "Parameter 'size' expects a non-negative number below 2^64";

std::string out_of_range(const std::string& text) {
  return "Value '" + text + "' is out of range for parameter 'size'";
}

TEST_CASE("parse_options: takes each type", "[formats][options]") {
  const auto values =
      parse_options(kList, "size=1.5k,refcount_bits=0x10,lazy_refcounts=yes,data_file=a b");
  REQUIRE_THAT(values, IsOk());
  CHECK(values->number("size") == 1536);
  CHECK(values->number("refcount_bits") == 16);
  CHECK(values->boolean("lazy_refcounts") == true);
  CHECK(values->string("data_file") == "a b");
  CHECK(values->has("size"));
  CHECK_FALSE(values->has("cluster_size"));
  CHECK_FALSE(values->number("cluster_size").has_value());
}

TEST_CASE("parse_options: an empty text gives nothing", "[formats][options]") {
  const auto values = parse_options(kList, "");
  REQUIRE_THAT(values, IsOk());
  CHECK_FALSE(values->has("size"));
}

TEST_CASE("parse_options: a doubled comma is part of the value", "[formats][options]") {
  const auto values = parse_options(kList, "data_file=a,,b,,,size=512");
  REQUIRE_THAT(values, IsOk());
  CHECK(values->string("data_file") == "a,b,");
  CHECK(values->number("size") == 512);
}

TEST_CASE("parse_options: later values win", "[formats][options]") {
  const auto values = parse_options(kList, "lazy_refcounts=on,size=1,lazy_refcounts=off,size=2k");
  REQUIRE_THAT(values, IsOk());
  CHECK(values->boolean("lazy_refcounts") == false);
  CHECK(values->number("size") == 2048);
}

TEST_CASE("parse_options: a bare name means on, with no in front off", "[formats][options]") {
  CHECK(parse_options(kList, "lazy_refcounts")->boolean("lazy_refcounts") == true);
  CHECK(parse_options(kList, "nolazy_refcounts")->boolean("lazy_refcounts") == false);
  CHECK(parse_options(kList, "data_file")->string("data_file") == "on");
  CHECK_THAT(parse_options(kList, "nofoo"), FailsSaying("Invalid parameter 'foo'"));
}

TEST_CASE("parse_options: booleans are spelled in eight ways", "[formats][options]") {
  for (const std::string yes : {"on", "yes", "true", "y"}) {
    CHECK(parse_options(kList, "lazy_refcounts=" + yes)->boolean("lazy_refcounts") == true);
  }
  for (const std::string no : {"off", "no", "false", "n"}) {
    CHECK(parse_options(kList, "lazy_refcounts=" + no)->boolean("lazy_refcounts") == false);
  }
  for (const std::string neither : {"ON", "1", "", "of"}) {
    CHECK_THAT(parse_options(kList, "lazy_refcounts=" + neither),
               FailsSaying("Parameter 'lazy_refcounts' expects 'on' or 'off'"));
  }
}

TEST_CASE("parse_options: numbers are decimal, octal or hexadecimal", "[formats][options]") {
  CHECK(parse_options(kList, "refcount_bits=16")->number("refcount_bits") == 16);
  CHECK(parse_options(kList, "refcount_bits=010")->number("refcount_bits") == 8);
  CHECK(parse_options(kList, "refcount_bits= +16")->number("refcount_bits") == 16);
  CHECK(parse_options(kList, "refcount_bits=-1")->number("refcount_bits") == UINT64_MAX);
  for (const std::string bad : {"", "foo", "16k", "16 ", "1.5", "09", "-", "0x"}) {
    CHECK_THAT(parse_options(kList, "refcount_bits=" + bad),
               FailsSaying("Parameter 'refcount_bits' expects a number"));
  }
  CHECK_THAT(
      parse_options(kList, "refcount_bits=18446744073709551616"),
      FailsSaying("Value '18446744073709551616' is too large for parameter 'refcount_bits'"));
}

TEST_CASE("parse_options: the first mistake is reported", "[formats][options]") {
  CHECK_THAT(parse_options(kList, "size=1,foo=1,size=x"), FailsSaying("Invalid parameter 'foo'"));
  CHECK_THAT(parse_options(kList, "size=x,foo=1"), FailsSaying(kNotASize));
  CHECK_THAT(parse_options(kList, "a,,=1"), FailsSaying("Invalid parameter 'a'"));
  CHECK_THAT(parse_options(kList, "=1"), FailsSaying("Invalid parameter ''"));
  CHECK_THAT(parse_options(kList, "size=1,"), FailsSaying("Invalid option list: size=1,"));
}

TEST_CASE("is_valid_option_text: refuses empty pieces and odd commas", "[formats][options]") {
  for (const std::string bad : {"", ",", ",a=1", "a=1,", "a=1,,,"}) {
    INFO(bad);
    CHECK_FALSE(is_valid_option_text(bad));
  }
  for (const std::string good : {"a", "a=1,,", "a=1,b"}) {
    INFO(good);
    CHECK(is_valid_option_text(good));
  }
}

TEST_CASE("asks_for_help: finds help as a piece of its own", "[formats][options]") {
  for (const std::string yes : {"help", "?", "size=1,help", "?,size=1", "data_file=a,help"}) {
    INFO(yes);
    CHECK(asks_for_help(yes));
  }
  for (const std::string no : {"", "size=help", "help=1", "data_file=a,,help", "helpme"}) {
    INFO(no);
    CHECK_FALSE(asks_for_help(no));
  }
}

TEST_CASE("option_help: lines are sorted and aligned", "[formats][options]") {
  CHECK(option_help(kList) ==
        std::vector<std::string>{
            "  cluster_size=<size>    - qcow2 cluster size",
            "  data_file=<str>        - File name of an external data file",
            "  lazy_refcounts=<bool (on/off)> - Postpone refcount updates",
            "  refcount_bits=<num>    - Width of a reference count entry in bits",
            "  size=<size>            - Virtual disk size",
        });
}

TEST_CASE("parse_option_size: suffixes are powers of 1024", "[formats][options]") {
  const auto size = [](const std::string& text) { return *parse_option_size("size", text); };
  CHECK(size("0") == 0);
  CHECK(size("1b") == 1);
  CHECK(size("3K") == 3072);
  CHECK(size("2m") == 2097152);
  CHECK(size("1G") == 1073741824);
  CHECK(size("1t") == 1099511627776);
  CHECK(size("1P") == 1125899906842624);
  CHECK(size("15E") == 17293822569102704640U);
  CHECK(size("1e") == 1152921504606846976);
  CHECK(size("18446744073709551615") == UINT64_MAX);
  CHECK(size("18446744073709551615b") == UINT64_MAX);
}

TEST_CASE("parse_option_size: takes hexadecimal, signs and leading blanks", "[formats][options]") {
  const auto size = [](const std::string& text) { return *parse_option_size("size", text); };
  CHECK(size("0xff") == 255);
  CHECK(size("0X1f") == 31);
  CHECK(size("0x1b") == 27);
  CHECK(size("+0x10") == 16);
  CHECK(size(" \t1k") == 1024);
  CHECK(size("+1") == 1);
  CHECK(size("010") == 10);
}

TEST_CASE("parse_option_size: fractions round to the nearest byte", "[formats][options]") {
  const auto size = [](const std::string& text) { return *parse_option_size("size", text); };
  CHECK(size("1.5k") == 1536);
  CHECK(size(".5k") == 512);
  CHECK(size("+.5k") == 512);
  CHECK(size("1.k") == 1024);
  CHECK(size("1.0") == 1);
  CHECK(size("1.00048828125k") == 1025);
  CHECK(size("1.0000000001k") == 1024);
  CHECK(size("0.00048828125k") == 1);
  CHECK(size("0.00048828124k") == 0);
  CHECK(size("0.99999999999999999999999k") == 1024);
  CHECK(size("15.999E") == 18445591152204944768U);
}

TEST_CASE("parse_option_size: refuses what is no size", "[formats][options]") {
  for (const std::string bad : {"",
                                " ",
                                "+",
                                "-",
                                ".",
                                ".k",
                                "k",
                                "1kB",
                                "1e3",
                                "1.5",
                                "0.5",
                                ".5",
                                "1.5b",
                                "1 k",
                                "1k ",
                                "0x",
                                "0xg",
                                "0x1k",
                                "0x1.8",
                                "00x10",
                                "-5k",
                                "-1x",
                                "-0x1",
                                "+-1",
                                "1..5k",
                                "1.5kk",
                                "16E5",
                                "99999999999999999999x",
                                "99999999999999999999.",
                                "99999999999999999999k"}) {
    INFO(bad);
    const auto result = parse_option_size("size", bad);
    CHECK_THAT(result, FailsSaying(kNotASize));
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().hint() ==
          "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
          "and exabytes, respectively.");
  }
}

TEST_CASE("parse_option_size: a number that does not fit is out of range", "[formats][options]") {
  for (const std::string bad :
       {"-1", "-0", "16E", "16384P", "18446744073709551616", "99999999999999999999999",
        "18446744073709551615.9k", "0x10000000000000000"}) {
    CHECK_THAT(parse_option_size("size", bad), FailsSaying(out_of_range(bad)));
  }
}

}  // namespace
}  // namespace imgconv
