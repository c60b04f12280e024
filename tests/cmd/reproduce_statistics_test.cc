#include "cmd/reproduce_statistics.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace imgconv {

TEST_CASE("Reproduce: the bound is the exact form of the rule of three", "[cmd]") {
  for (const uint64_t runs : {1, 10, 500, 10000}) {
    const double bound = upper_bound_95(runs);
    CHECK(std::pow(1 - bound, static_cast<double>(runs)) == Approx(0.05));
  }
  CHECK(upper_bound_95(500) == Approx(3.0 / 500).epsilon(0.01));
}

TEST_CASE("Reproduce: hangs in words", "[cmd]") {
  CHECK(hangs_text(0, 500) == "0 of 500: below 0.6% (95% confidence)");
  CHECK(hangs_text(0, 10000) == "0 of 10000: below 0.03% (95% confidence)");
  CHECK(hangs_text(3, 500) == "3 of 500 (0.6%)");
  CHECK(hangs_text(49, 50) == "49 of 50 (98%)");
  CHECK(hangs_text(50, 50) == "50 of 50 (100%)");
  CHECK(hangs_text(0, 0) == "no run");
}

TEST_CASE("Reproduce: rates of a series", "[cmd]") {
  RunStatistics statistics;
  statistics.runs = 4;
  statistics.hangs = 1;
  statistics.elapsed_ns = 2'000'000'000;
  statistics.sleeps = 1000;
  statistics.wakeups = 500;
  statistics.completions = 2000;
  CHECK(statistics_text(statistics) ==
        "hangs: 1 of 4 (25%)\n"
        "2000 completions, 1000 sleeps, 500 wake-ups: 250 wake-ups per second\n"
        "lost wake-ups that hung the convert: 1000 per million sleeps\n");
}

TEST_CASE("Reproduce: what the time limit gave up counts neither as a hang nor as none", "[cmd]") {
  RunStatistics statistics;
  statistics.runs = 501;
  statistics.given_up = 1;
  statistics.elapsed_ns = 1'000'000'000;
  statistics.sleeps = 1000;
  CHECK(statistics.stopped() == 1);
  CHECK(statistics_text(statistics) ==
        "hangs: 0 of 500: below 0.6% (95% confidence)\n"
        "given up by the time limit: 1 of 501, slow or hung\n"
        "0 completions, 1000 sleeps, 0 wake-ups: 0 wake-ups per second\n"
        "lost wake-ups that hung the convert: 0 per million sleeps\n");
}

}  // namespace imgconv
