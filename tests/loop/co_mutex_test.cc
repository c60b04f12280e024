#include "loop/co_mutex.h"

#include <catch2/catch.hpp>
#include <vector>

#include "loop/co_queue.h"
#include "loop/task.h"
#include "loop/task_group.h"

namespace imgconv {
namespace {

Task<void> wait_and_log(CoQueue& queue, std::vector<int>& log, int id) {
  co_await queue.wait();
  log.push_back(id);
}

Task<void> wait_twice(CoQueue& queue, std::vector<int>& log, int id) {
  co_await queue.wait();
  log.push_back(id);
  co_await queue.wait();
  log.push_back(id);
}

/// Holds the mutex over a suspension and logs entry and exit.
Task<void> critical_section(CoMutex& mutex, CoQueue& work, std::vector<int>& log, int id) {
  const CoMutex::Guard guard = co_await mutex.lock();
  log.push_back(id);
  co_await work.wait();
  log.push_back(-id);
}

Task<void> unlock_early(CoMutex& mutex, std::vector<int>& log, int id) {
  CoMutex::Guard guard = co_await mutex.lock();
  guard.unlock();
  log.push_back(id);
}

}  // namespace

TEST_CASE("CoQueue: waiters are woken first come first served", "[loop][co_queue]") {
  CoQueue queue;
  TaskGroup group;
  std::vector<int> log;
  for (int id = 1; id <= 3; ++id) group.spawn(wait_and_log(queue, log, id));
  CHECK(queue.wake_one());
  CHECK(log == std::vector<int>{1});
  queue.wake_all();
  CHECK(log == std::vector<int>{1, 2, 3});
  CHECK_FALSE(queue.wake_one());
}

TEST_CASE("CoQueue: who waits again during wake_all stays", "[loop][co_queue]") {
  CoQueue queue;
  TaskGroup group;
  std::vector<int> log;
  group.spawn(wait_twice(queue, log, 1));
  group.spawn(wait_twice(queue, log, 2));
  queue.wake_all();
  CHECK(log == std::vector<int>{1, 2});
  queue.wake_all();
  CHECK(log == std::vector<int>{1, 2, 1, 2});
}

TEST_CASE("CoMutex: a free mutex is taken without suspending", "[loop][co_mutex]") {
  CoMutex mutex;
  CoQueue work;
  TaskGroup group;
  std::vector<int> log;
  group.spawn(critical_section(mutex, work, log, 1));
  CHECK(log == std::vector<int>{1});
  CHECK(mutex.is_locked());
  work.wake_all();
  CHECK_FALSE(mutex.is_locked());
}

TEST_CASE("CoMutex: critical sections exclude each other and come in order", "[loop][co_mutex]") {
  CoMutex mutex;
  CoQueue work;
  TaskGroup group;
  std::vector<int> log;
  for (int id = 1; id <= 3; ++id) group.spawn(critical_section(mutex, work, log, id));
  work.wake_one();
  CHECK(mutex.is_locked());
  while (work.wake_one()) {
  }
  CHECK(log == std::vector<int>{1, -1, 2, -2, 3, -3});
  CHECK_FALSE(mutex.is_locked());
}

TEST_CASE("CoMutex: unlock before the end of the scope lets the next one in", "[loop][co_mutex]") {
  CoMutex mutex;
  CoQueue work;
  TaskGroup group;
  std::vector<int> log;
  group.spawn(critical_section(mutex, work, log, 1));
  group.spawn(unlock_early(mutex, log, 2));
  group.spawn(unlock_early(mutex, log, 3));
  work.wake_one();
  // Each hands over before it logs, so the last to enter is the first to log.
  CHECK(log == std::vector<int>{1, -1, 3, 2});
}

}  // namespace imgconv
