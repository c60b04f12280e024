// TaskGroup: owns several tasks that run at the same time, and joins them all.
//
// The only place where a task is started without being awaited at once. A task spawned here must
// take its arguments by value or refer to things that outlive join(). Nothing is cancelled: I/O in
// flight owns buffers, so join() waits for every task and then reports the first error. Loop thread
// only.
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "loop/error.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class TaskGroup {
 public:
  TaskGroup() = default;
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  /// Requires: nothing runs any more; join() was awaited if anything was spawned.
  ~TaskGroup() { assert(running_ == 0); }

  /// Runs `task` up to its first suspension; the group keeps it until it is done.
  void spawn(Task<Result<void>> task) {
    ++running_;
    run(*this, std::move(task));
  }
  /// The same for a task that cannot fail.
  void spawn(Task<void> task) {
    ++running_;
    run(*this, std::move(task));
  }

  size_t running() const { return running_; }

  /// Waits until every task is done; the error of the task that failed first, if one did.
  /// Requires: one join() at a time.
  Task<Result<void>> join() {
    co_await Idle(*this);
    if (first_error_) {
      Error error = std::move(*first_error_);
      first_error_.reset();
      co_return error;
    }
    co_return ok();
  }

 private:
  // Starts at once and frees its own frame at the end, then lets the joiner go on. The transfer
  // happens after the frame is gone, so the joiner may destroy the group.
  struct Runner {
    struct promise_type {
      promise_type(TaskGroup& owner, Task<Result<void>>&) : group(owner) {}
      promise_type(TaskGroup& owner, Task<void>&) : group(owner) {}
      TaskGroup& group;

      struct FinalAwaiter {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) noexcept {
          TaskGroup& group = self.promise().group;
          self.destroy();
          return group.finish_one();
        }
        void await_resume() noexcept {}
      };

      Runner get_return_object() noexcept { return {}; }
      std::suspend_never initial_suspend() noexcept { return {}; }
      FinalAwaiter final_suspend() noexcept { return {}; }
      void return_void() noexcept {}
      void unhandled_exception() noexcept { std::terminate(); }
    };
  };

  class Idle {
   public:
    explicit Idle(TaskGroup& group) : group_(group) {}
    bool await_ready() const noexcept { return group_.running_ == 0; }
    void await_suspend(std::coroutine_handle<> joiner) noexcept {
      assert(!group_.joiner_);
      group_.joiner_ = joiner;
    }
    void await_resume() const noexcept {}

   private:
    TaskGroup& group_;
  };

  static Runner run(TaskGroup& group, Task<Result<void>> task) {
    Result<void> result = co_await std::move(task);
    if (!result && !group.first_error_) group.first_error_ = std::move(result).error();
  }
  static Runner run(TaskGroup&, Task<void> task) { co_await std::move(task); }

  std::coroutine_handle<> finish_one() noexcept {
    if (--running_ > 0 || !joiner_) return std::noop_coroutine();
    return std::exchange(joiner_, {});
  }

  size_t running_ = 0;
  std::optional<Error> first_error_;
  std::coroutine_handle<> joiner_;
};

}  // namespace imgconv
