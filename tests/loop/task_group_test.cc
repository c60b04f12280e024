#include "loop/task_group.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <vector>

#include "loop/co_queue.h"
#include "tests/support/matchers.h"

namespace imgconv {
namespace {

using test::FailsWith;
using test::IsOk;

Task<Result<void>> finish_at_once(int& finished) {
  ++finished;
  co_return ok();
}

Task<Result<void>> wait_then_succeed(CoQueue& queue, int& finished) {
  co_await queue.wait();
  ++finished;
  co_return ok();
}

Task<Result<void>> wait_then_fail(CoQueue& queue, int error) {
  co_await queue.wait();
  co_return Error::from_errno(error);
}

Task<void> wait_only(CoQueue& queue) { co_await queue.wait(); }

/// Owns the group, so that the group dies as soon as the last task lets join() return.
Task<Result<void>> join_own_group(CoQueue& queue, int tasks, int& finished) {
  auto group = std::make_unique<TaskGroup>();
  for (int i = 0; i < tasks; ++i) group->spawn(wait_then_succeed(queue, finished));
  Result<void> result = co_await group->join();
  group.reset();
  co_return result;
}

}  // namespace

TEST_CASE("TaskGroup: join of an empty group is done at once", "[loop][task_group]") {
  TaskGroup group;
  Task<Result<void>> join = group.join();
  join.start();
  REQUIRE(join.is_done());
  CHECK_THAT(join.take(), IsOk());
}

TEST_CASE("TaskGroup: tasks that finish inside spawn are counted off", "[loop][task_group]") {
  TaskGroup group;
  int finished = 0;
  for (int i = 0; i < 100'000; ++i) group.spawn(finish_at_once(finished));
  CHECK(finished == 100'000);
  CHECK(group.running() == 0);
}

TEST_CASE("TaskGroup: join waits for the last task", "[loop][task_group]") {
  CoQueue queue;
  TaskGroup group;
  int finished = 0;
  for (int i = 0; i < 3; ++i) group.spawn(wait_then_succeed(queue, finished));
  Task<Result<void>> join = group.join();
  join.start();
  queue.wake_one();
  queue.wake_one();
  CHECK_FALSE(join.is_done());
  CHECK(group.running() == 1);
  queue.wake_one();
  REQUIRE(join.is_done());
  CHECK(finished == 3);
}

TEST_CASE("TaskGroup: the first error wins and the other tasks still run to their end",
          "[loop][task_group]") {
  CoQueue queue;
  TaskGroup group;
  int finished = 0;
  group.spawn(wait_then_fail(queue, ENOSPC));
  group.spawn(wait_then_fail(queue, EIO));
  group.spawn(wait_then_succeed(queue, finished));
  group.spawn(wait_only(queue));
  Task<Result<void>> join = group.join();
  join.start();
  queue.wake_all();
  REQUIRE(join.is_done());
  CHECK_THAT(join.take(), FailsWith(ENOSPC));
  CHECK(finished == 1);
}

TEST_CASE("TaskGroup: can be used again after join", "[loop][task_group]") {
  CoQueue queue;
  TaskGroup group;
  group.spawn(wait_then_fail(queue, EIO));
  queue.wake_all();
  Task<Result<void>> first = group.join();
  first.start();
  CHECK_THAT(first.take(), FailsWith(EIO));

  int finished = 0;
  group.spawn(finish_at_once(finished));
  Task<Result<void>> second = group.join();
  second.start();
  CHECK_THAT(second.take(), IsOk());
}

TEST_CASE("TaskGroup: the joiner may destroy the group", "[loop][task_group]") {
  CoQueue queue;
  int finished = 0;
  Task<Result<void>> task = join_own_group(queue, 5, finished);
  task.start();
  queue.wake_all();
  REQUIRE(task.is_done());
  CHECK(finished == 5);
}

}  // namespace imgconv
