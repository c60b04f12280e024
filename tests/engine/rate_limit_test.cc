#include "engine/rate_limit.h"

#include <catch2/catch.hpp>

namespace imgconv {
namespace {

using std::chrono::milliseconds;

TEST_CASE("Rate limit: bytes wait for the time of the bytes before them", "[engine]") {
  RateLimit limit(1000);
  const RateLimit::Time start = RateLimit::Time() + std::chrono::hours(1);
  REQUIRE(limit.charge(500, start) == milliseconds(0));
  REQUIRE(limit.charge(500, start) == milliseconds(500));
  REQUIRE(limit.charge(1, start + milliseconds(800)) == milliseconds(200));
}

TEST_CASE("Rate limit: time in which nothing was copied is not saved up", "[engine]") {
  RateLimit limit(1000);
  const RateLimit::Time start = RateLimit::Time() + std::chrono::hours(1);
  REQUIRE(limit.charge(100, start) == milliseconds(0));
  const RateLimit::Time later = start + std::chrono::seconds(10);
  REQUIRE(limit.charge(1000, later) == milliseconds(0));
  REQUIRE(limit.charge(1, later) == milliseconds(1000));
}

TEST_CASE("Rate limit: none never waits", "[engine]") {
  RateLimit limit(0);
  REQUIRE(limit.charge(UINT64_MAX, RateLimit::Time()) == milliseconds(0));
  REQUIRE(limit.charge(UINT64_MAX, RateLimit::Time()) == milliseconds(0));
}

}  // namespace
}  // namespace imgconv
