// Task<T>: a lazy coroutine, started by co_await and owned by whoever awaits it.
//
// Runs on one thread only (the loop thread; in tests, the test's thread), so it needs no atomics.
// A child is started by a nested resume(); if it finished before await_suspend returns, the parent
// simply goes on. Only a child that really suspended transfers control at its end. Plain symmetric
// transfer overflows the stack under g++ 12 without optimisation (ARCHITECTURE section 7, rule 1;
// tests/loop/task_test.cc awaits a million finished children).
//
// A task that is never awaited never runs; [[nodiscard]] reports it. Exceptions do not cross
// co_await: one that escapes a coroutine terminates the program.
#pragma once

#include <cassert>
#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace imgconv {

template <class T>
class Task;

namespace detail {

struct TaskPromiseBase {
  std::coroutine_handle<> continuation;
  // True while the parent's await_suspend is still on the stack below us: finishing then must not
  // resume the parent, await_suspend's return value does that.
  bool parent_is_starting_us = false;

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      TaskPromiseBase& promise = self.promise();
      if (promise.parent_is_starting_us || !promise.continuation) return std::noop_coroutine();
      return promise.continuation;
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct TaskPromise : TaskPromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T take() { return std::move(*value); }
};

template <>
struct TaskPromise<void> : TaskPromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace detail

template <class T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) noexcept : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  class Awaiter {
   public:
    explicit Awaiter(Handle child) noexcept : child_(child) {}
    bool await_ready() const noexcept { return child_.done(); }
    bool await_suspend(std::coroutine_handle<> parent) noexcept {
      auto& promise = child_.promise();
      promise.continuation = parent;
      promise.parent_is_starting_us = true;
      child_.resume();
      promise.parent_is_starting_us = false;
      return !child_.done();
    }
    T await_resume() { return child_.promise().take(); }

   private:
    Handle child_;
  };
  /// Requires: the task was not awaited before.
  Awaiter operator co_await() && noexcept { return Awaiter(handle_); }

  /// Runs the task up to its first suspension. For roots only: loop runners, TaskGroup, tests.
  void start() { handle_.resume(); }
  bool is_done() const noexcept { return handle_.done(); }
  /// Requires: is_done().
  T take() {
    assert(handle_.done());
    return handle_.promise().take();
  }

 private:
  Handle handle_;
};

namespace detail {
template <class T>
Task<T> TaskPromise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<TaskPromise<T>>::from_promise(*this));
}
inline Task<void> TaskPromise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<TaskPromise<void>>::from_promise(*this));
}
}  // namespace detail

}  // namespace imgconv
