#include "loop/event.h"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

namespace imgconv {
namespace {

TEST_CASE("Event: wait returns at once when set before", "[loop]") {
  Event event;
  event.set();
  event.wait();
  event.wait();
  SUCCEED();
}

TEST_CASE("Event: wait_until does not block on a condition that holds", "[loop]") {
  Event event;
  int num_looks = 0;
  event.wait_until([&] { return ++num_looks == 1; });
  CHECK(num_looks == 1);
  event.wait_until([&] { return ++num_looks == 3; });
  CHECK(num_looks == 3);
}

TEST_CASE("Event: wait_since sees a set that was reset by somebody else", "[loop]") {
  Event event;
  const uint32_t generation = event.reset();
  event.set();
  event.reset();
  event.wait_since(generation);
  SUCCEED();
}

TEST_CASE("Event: set releases all waiters and shows them what was done before", "[loop]") {
  constexpr int kRounds = 300;
  constexpr size_t kWaiters = 4;
  for (int round = 0; round < kRounds; ++round) {
    Event event;
    int payload = 0;
    std::array<int, kWaiters> seen = {};
    std::vector<std::thread> waiters;
    for (size_t i = 0; i < kWaiters; ++i) {
      waiters.emplace_back([&event, &payload, &mine = seen[i]] {
        event.wait();
        mine = payload;
      });
    }
    payload = round + 1;
    event.set();
    for (std::thread& waiter : waiters) waiter.join();
    for (const int value : seen) REQUIRE(value == round + 1);
  }
}

TEST_CASE("Event: two threads that wait for each other in turns both arrive", "[loop]") {
  constexpr int kRounds = 20'000;
  Event event;
  std::atomic<int> turn{0};
  const auto play = [&](int parity) {
    for (int mine = parity; mine < kRounds; mine += 2) {
      // Relaxed, so that only the event can order it.
      event.wait_until([&] { return turn.load(std::memory_order_relaxed) == mine; });
      turn.store(mine + 1, std::memory_order_relaxed);
      event.set();
    }
  };
  std::thread other(play, 1);
  play(0);
  other.join();
  CHECK(turn.load() == kRounds);
}

TEST_CASE("Event: reset makes wait block until the next set", "[loop]") {
  constexpr int kRounds = 2'000;
  Event request;
  Event reply;
  int value = 0;
  std::thread server([&] {
    for (int round = 0; round < kRounds; ++round) {
      request.wait();
      request.reset();
      ++value;
      reply.set();
    }
  });
  bool in_step = true;
  for (int round = 0; round < kRounds; ++round) {
    request.set();
    reply.wait();
    reply.reset();
    in_step = in_step && value == round + 1;
  }
  server.join();
  CHECK(in_step);
}

}  // namespace
}  // namespace imgconv
