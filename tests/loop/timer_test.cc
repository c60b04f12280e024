#include "loop/timer.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

namespace imgconv {

TEST_CASE("TimerList: calls what is due, earliest first, equals in the order of arming",
          "[loop][timer]") {
  TimerList timers;
  std::vector<int> log;
  Timer late(timers, [&] { log.push_back(4); });
  Timer second(timers, [&] { log.push_back(2); });
  Timer third(timers, [&] { log.push_back(3); });
  Timer first(timers, [&] { log.push_back(1); });
  late.arm_at(300);
  second.arm_at(200);
  third.arm_at(200);
  first.arm_at(100);
  CHECK(timers.next_deadline_ns() == 100);
  CHECK(timers.dispatch(200));
  CHECK(log == std::vector<int>{1, 2, 3});
  CHECK(timers.next_deadline_ns() == 300);
  CHECK_FALSE(timers.dispatch(299));
}

TEST_CASE("Timer: arming again replaces the deadline, cancel removes it", "[loop][timer]") {
  TimerList timers;
  int calls = 0;
  Timer timer(timers, [&] { ++calls; });
  timer.arm_at(100);
  timer.arm_at(500);
  CHECK_FALSE(timers.dispatch(400));
  timer.cancel();
  CHECK_FALSE(timer.is_armed());
  CHECK_FALSE(timers.dispatch(1000));
  CHECK(calls == 0);
}

TEST_CASE("Timer: one that arms itself for the past waits for the next dispatch", "[loop][timer]") {
  TimerList timers;
  int calls = 0;
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(timers, [&] {
    ++calls;
    timer->arm_at(0);
  });
  timer->arm_at(0);
  CHECK(timers.dispatch(10));
  CHECK(calls == 1);
  CHECK(timers.dispatch(10));
  CHECK(calls == 2);
}

TEST_CASE("Timer: its callback may destroy it and others", "[loop][timer]") {
  TimerList timers;
  int calls = 0;
  std::unique_ptr<Timer> victim = std::make_unique<Timer>(timers, [&] { calls += 100; });
  std::unique_ptr<Timer> timer;
  timer = std::make_unique<Timer>(timers, [&] {
    ++calls;
    victim.reset();
    timer.reset();
  });
  timer->arm_at(1);
  victim->arm_at(2);
  timers.dispatch(10);
  CHECK(calls == 1);
  CHECK_FALSE(timers.next_deadline_ns().has_value());
}

}  // namespace imgconv
