#include "loop/task.h"

#include <catch2/catch.hpp>
#include <coroutine>
#include <memory>
#include <string>
#include <vector>

namespace imgconv {
namespace {

/// Suspends its coroutine until the test resumes it.
struct Gate {
  std::coroutine_handle<> waiter;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) noexcept { waiter = handle; }
  void await_resume() const noexcept {}
};

/// Counts how many of it exist.
struct Tracked {
  explicit Tracked(int& alive) : alive_(alive) { ++alive_; }
  ~Tracked() { --alive_; }
  Tracked(const Tracked&) = delete;
  Tracked& operator=(const Tracked&) = delete;
  int& alive_;
};

Task<int> answer(int value) { co_return value; }

Task<int64_t> sum_of_finished_children(int count) {
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const int value = co_await answer(1);
    sum += value;
  }
  co_return sum;
}

Task<int> wait_at(Gate& gate, int value) {
  co_await gate;
  co_return value;
}

Task<int> add_children(Gate& first, Gate& second) {
  const int a = co_await wait_at(first, 1);
  const int b = co_await wait_at(second, 2);
  co_return a + b;
}

Task<int> suspend_in_each(std::vector<Gate>& gates) {
  int sum = 0;
  for (Gate& gate : gates) {
    const int value = co_await wait_at(gate, 1);
    sum += value;
  }
  co_return sum;
}

Task<void> note(std::vector<std::string>& log, std::string text) {
  log.push_back(text);
  co_return;
}

Task<void> hold(Gate& gate, int& alive) {
  const Tracked tracked(alive);
  co_await gate;
}

Task<void> hold_in_child(Gate& gate, int& alive) {
  const Tracked tracked(alive);
  co_await hold(gate, alive);
}

Task<std::unique_ptr<int>> make_number(int value) { co_return std::make_unique<int>(value); }

}  // namespace

TEST_CASE("Task: nothing runs before it is started", "[loop][task]") {
  std::vector<std::string> log;
  Task<void> task = note(log, "ran");
  CHECK(log.empty());
  task.start();
  CHECK(log == std::vector<std::string>{"ran"});
  CHECK(task.is_done());
}

TEST_CASE("Task: a million finished children need no more stack than one", "[loop][task]") {
  Task<int64_t> task = sum_of_finished_children(1'000'000);
  task.start();
  REQUIRE(task.is_done());
  CHECK(task.take() == 1'000'000);
}

TEST_CASE("Task: a parent goes on when its suspended child finishes", "[loop][task]") {
  Gate first;
  Gate second;
  Task<int> task = add_children(first, second);
  task.start();
  CHECK_FALSE(task.is_done());
  first.waiter.resume();
  CHECK_FALSE(task.is_done());
  second.waiter.resume();
  REQUIRE(task.is_done());
  CHECK(task.take() == 3);
}

TEST_CASE("Task: many children that suspend in turn are all awaited", "[loop][task]") {
  std::vector<Gate> gates(1000);
  Task<int> task = suspend_in_each(gates);
  task.start();
  for (Gate& gate : gates) gate.waiter.resume();
  REQUIRE(task.is_done());
  CHECK(task.take() == 1000);
}

TEST_CASE("Task: destroying a suspended task destroys its frame and its child's", "[loop][task]") {
  int alive = 0;
  Gate gate;
  {
    Task<void> task = hold_in_child(gate, alive);
    task.start();
    CHECK(alive == 2);
  }
  CHECK(alive == 0);
}

TEST_CASE("Task: destroying a task that never ran is harmless", "[loop][task]") {
  int alive = 0;
  Gate gate;
  { const Task<void> task = hold(gate, alive); }
  CHECK(alive == 0);
}

TEST_CASE("Task: a move-only value is handed over", "[loop][task]") {
  Task<std::unique_ptr<int>> task = make_number(7);
  task.start();
  const std::unique_ptr<int> number = task.take();
  REQUIRE(number != nullptr);
  CHECK(*number == 7);
}

}  // namespace imgconv
