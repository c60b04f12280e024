// Executor: runs a function elsewhere and resumes the awaiting coroutine on the loop thread.
//
// The seam between coroutines and threads. ThreadPool (loop/thread_pool.h) is the real one; tests
// use one that runs inline or one that holds completions back and releases them in a seeded order.
#pragma once

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

namespace imgconv {

/// A unit of work, owned by the coroutine that waits for it; it must stay alive until complete().
class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;

  /// Executed on any thread. May touch only what it was handed.
  virtual void run() = 0;
  /// Called on the loop thread after run() returned; what run() wrote is visible.
  virtual void complete() = 0;

  /// Intrusive link for whichever queue holds the job at the moment.
  Job* next = nullptr;
};

class Executor {
 public:
  virtual ~Executor() = default;
  /// Loop thread only. Jobs begin in the order of submission. run() and complete() may both happen
  /// before submit() returns (inline executors).
  virtual void submit(Job& job) = 0;
};

/// co_await run_on(executor, f): the value f() returned. `f` runs on another thread; it is moved
/// into the coroutine frame and may hold references to things that outlive the co_await.
template <class Function>
class [[nodiscard]] RunOn final : private Job {
  using Value = std::invoke_result_t<Function&>;
  static_assert(!std::is_void_v<Value>, "return a Result, so that the job can fail");

 public:
  RunOn(Executor& executor, Function function)
      : executor_(executor), function_(std::move(function)) {}

  bool await_ready() const noexcept { return false; }
  bool await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    submitting_ = true;
    executor_.submit(*this);
    submitting_ = false;
    return !completed_;
  }
  Value await_resume() { return std::move(*value_); }

 private:
  void run() override { value_.emplace(function_()); }
  void complete() override {
    completed_ = true;
    if (!submitting_) waiter_.resume();
  }

  Executor& executor_;
  Function function_;
  std::optional<Value> value_;
  std::coroutine_handle<> waiter_;
  // Loop thread only. Both are written after submit() of a threaded executor handed the job to
  // another thread, so that thread must not touch them; run() does not.
  bool submitting_ = false;
  bool completed_ = false;
};

template <class Function>
RunOn<Function> run_on(Executor& executor, Function function) {
  return RunOn<Function>(executor, std::move(function));
}

}  // namespace imgconv
