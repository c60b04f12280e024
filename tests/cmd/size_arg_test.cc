#include "cmd/size_arg.h"

#include "loop/messages_before.h"

#include <catch2/catch.hpp>

namespace imgconv {

TEST_CASE("size argument: suffixes are powers of 1024", "[cmd]") {
  CHECK(parse_size_arg("image size", "512").value() == 512);
  CHECK(parse_size_arg("image size", "64k").value() == 65536);
  CHECK(parse_size_arg("image size", "1.5G").value() == 1610612736);
  CHECK(parse_size_arg("image size", "0x200").value() == 512);
}

TEST_CASE("size argument: what is no size is explained in two lines", "[cmd]") {
  for (const char* text : {"", "1X", "1kB", "1e3", "1.5", "0x1k"}) {
    CAPTURE(text);
    const Result<uint64_t> size = parse_size_arg("rate limit", text);
    REQUIRE_FALSE(size);
    CHECK(size.error().text() ==
          std::string("Invalid rate limit specified. You may use k, M, G, T, P or E suffixes for") +
              kMessageEnd + "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
  }
}

TEST_CASE("size argument: negative sizes and those beyond a file offset are out of range",
          "[cmd]") {
  CHECK(parse_size_arg("image size", "9223372036854775807").value() == INT64_MAX);
  for (const char* text : {"8E", "-1", "9223372036854775808", "99999999999999999999999"}) {
    CAPTURE(text);
    const Result<uint64_t> size = parse_size_arg("image size", text);
    REQUIRE_FALSE(size);
    CHECK(size.error().text() ==
          "Invalid image size specified. Must be between 0 and 9223372036854775807.");
  }
}

}  // namespace imgconv
