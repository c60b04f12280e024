#include "loop/aio_wait.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "loop/event.h"

namespace imgconv {
namespace {

TEST_CASE("AioWait: the loop is not run when the condition holds", "[loop]") {
  AioWait wait;
  int num_runs = 0;
  wait.wait_until([] { return true; }, [&] { ++num_runs; });
  CHECK(num_runs == 0);
}

TEST_CASE("AioWait: the loop is run until the condition holds", "[loop]") {
  AioWait wait;
  int num_runs = 0;
  wait.wait_until([&] { return num_runs == 3; }, [&] { ++num_runs; });
  CHECK(num_runs == 3);
}

TEST_CASE("AioWait: kick wakes nobody when nobody waits", "[loop]") {
  AioWait wait;
  int num_wakes = 0;
  wait.kick([&] { ++num_wakes; });
  wait.wait_until([] { return true; }, [] {});
  wait.kick([&] { ++num_wakes; });
  CHECK(num_wakes == 0);
}

TEST_CASE("AioWait: kick wakes while somebody waits, nested or not", "[loop]") {
  AioWait wait;
  int num_wakes = 0;
  int depth = 0;
  wait.wait_until([&] { return depth == 1; },
                  [&] {
                    wait.wait_until([&] { return depth == 1; },
                                    [&] {
                                      wait.kick([&] { ++num_wakes; });
                                      depth = 1;
                                    });
                    wait.kick([&] { ++num_wakes; });
                  });
  CHECK(num_wakes == 2);
}

TEST_CASE("AioWait: a condition made true by another thread ends each of many waits", "[loop]") {
  constexpr int kRounds = 20'000;
  AioWait wait;
  // Stands for the loop: run_once() sleeps until it is woken, and forgets no wake-up.
  Event woken;
  Event next_round;
  std::atomic<int> count{0};
  std::thread kicker([&] {
    for (int round = 1; round <= kRounds; ++round) {
      next_round.wait();
      next_round.reset();
      count.store(round, std::memory_order_relaxed);
      wait.kick([&] { woken.set(); });
    }
  });
  for (int round = 1; round <= kRounds; ++round) {
    next_round.set();
    wait.wait_until([&] { return count.load(std::memory_order_relaxed) == round; },
                    [&] {
                      woken.wait();
                      woken.reset();
                    });
  }
  kicker.join();
  CHECK(count.load() == kRounds);
}

}  // namespace
}  // namespace imgconv
