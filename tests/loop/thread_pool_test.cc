#include "loop/thread_pool.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "loop/event.h"
#include "loop/result.h"
#include "loop/task.h"
#include "loop/task_group.h"

namespace imgconv {
namespace {

Task<Result<void>> add_on_pool(Executor& executor, AioContext& loop, int rounds, int64_t& sum) {
  for (int i = 0; i < rounds; ++i) {
    const std::thread::id home = std::this_thread::get_id();
    const bool was_elsewhere =
        co_await run_on(executor, [home] { return std::this_thread::get_id() != home; });
    if (!was_elsewhere || !loop.is_loop_thread()) co_return Error::from_errno(EIO);
    ++sum;
  }
  co_return ok();
}

template <class T>
T run(AioContext& loop, Task<T> task) {
  task.start();
  while (!task.is_done()) loop.run_once();
  return task.take();
}

/// Notes the order in which jobs start and complete.
class LoggingJob final : public Job {
 public:
  LoggingJob(int id, std::mutex& mutex, std::vector<int>& started, int& completed)
      : id_(id), mutex_(mutex), started_(started), completed_(completed) {}
  void run() override {
    const std::lock_guard lock(mutex_);
    started_.push_back(id_);
  }
  void complete() override { ++completed_; }

 private:
  const int id_;
  std::mutex& mutex_;
  std::vector<int>& started_;
  int& completed_;
};

/// No thread can be started any more. Root has no limit.
bool use_up_threads() {
  const rlimit none{0, 0};
  constexpr uid_t kNobody = 65534;
  if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return false;
  return ::setrlimit(RLIMIT_NPROC, &none) == 0;
}

}  // namespace

TEST_CASE("ThreadPool: without a thread to be had the jobs run on the loop thread",
          "[loop][thread_pool]") {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!use_up_threads()) ::_exit(1);
    AioContext loop;
    ThreadPool pool(loop, 2);
    const auto is_here = [](Executor& executor, AioContext& home) -> Task<bool> {
      const bool is_on_loop = co_await run_on(executor, [&home] { return home.is_loop_thread(); });
      co_return is_on_loop;
    };
    const bool was_first_here = run(loop, is_here(pool, loop));
    const bool was_second_here = run(loop, is_here(pool, loop));
    ::_exit(was_first_here && was_second_here ? 0 : 2);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("ThreadPool: a completion wakes the sleeping loop, many rounds", "[loop][thread_pool]") {
  AioContext loop;
  ThreadPool pool(loop, 1);
  int64_t sum = 0;
  // One job at a time: the loop sleeps in every round, and a lost wake-up would hang the test.
  const Result<void> result = run(loop, add_on_pool(pool, loop, 20'000, sum));
  CHECK(result.has_value());
  CHECK(sum == 20'000);
}

TEST_CASE("ThreadPool: many coroutines on several threads all come back to the loop",
          "[loop][thread_pool]") {
  AioContext loop;
  ThreadPool pool(loop, 4);
  TaskGroup group;
  int64_t sum = 0;
  for (int i = 0; i < 32; ++i) group.spawn(add_on_pool(pool, loop, 1000, sum));
  const Result<void> result = run(loop, group.join());
  CHECK(result.has_value());
  CHECK(sum == 32'000);
}

TEST_CASE("ThreadPool: jobs start in the order of submission", "[loop][thread_pool]") {
  AioContext loop;
  ThreadPool pool(loop, 1);
  std::mutex mutex;
  std::vector<int> started;
  int completed = 0;
  std::vector<std::unique_ptr<LoggingJob>> jobs;
  for (int id = 0; id < 100; ++id) {
    jobs.push_back(std::make_unique<LoggingJob>(id, mutex, started, completed));
    pool.submit(*jobs.back());
  }
  while (completed < 100) loop.run_once();
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(started == expected);
}

TEST_CASE("ThreadPool: submissions in a row run on several threads at once",
          "[loop][thread_pool]") {
  AioContext loop;
  ThreadPool pool(loop, 3);
  for (int round = 0; round < 200; ++round) {
    // Each job waits until all three run: possible only if three threads took them.
    std::atomic<int> arrived{0};
    Event all_arrived;
    TaskGroup group;
    const auto meet = [&] {
      if (arrived.fetch_add(1) == 2) all_arrived.set();
      all_arrived.wait();
      return true;
    };
    struct Meeting {
      static Task<void> attend(Executor& executor, const decltype(meet)& function) {
        const bool met = co_await run_on(executor, [&function] { return function(); });
        REQUIRE(met);
      }
    };
    for (int i = 0; i < 3; ++i) group.spawn(Meeting::attend(pool, meet));
    const Result<void> result = run(loop, group.join());
    CHECK(result.has_value());
  }
}

TEST_CASE("ThreadPool: the destructor runs what is queued", "[loop][thread_pool]") {
  AioContext loop;
  std::mutex mutex;
  std::vector<int> started;
  int completed = 0;
  std::vector<std::unique_ptr<LoggingJob>> jobs;
  {
    ThreadPool pool(loop, 2);
    for (int id = 0; id < 50; ++id) {
      jobs.push_back(std::make_unique<LoggingJob>(id, mutex, started, completed));
      pool.submit(*jobs.back());
    }
  }
  CHECK(started.size() == 50);
  while (completed < 50) loop.run_once();
}

TEST_CASE("ThreadPool: finished jobs are handed over in batches while the loop is busy",
          "[loop][thread_pool]") {
  AioContext loop;
  ThreadPool pool(loop, 2);
  std::mutex mutex;
  std::vector<int> started;
  int completed = 0;
  std::vector<std::unique_ptr<LoggingJob>> jobs;
  for (int id = 0; id < 1000; ++id) {
    jobs.push_back(std::make_unique<LoggingJob>(id, mutex, started, completed));
    pool.submit(*jobs.back());
  }
  while (completed < 1000) loop.run_once();
  CHECK(loop.statistics().rounds < 1000);
}

}  // namespace imgconv
