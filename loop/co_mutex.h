// CoMutex: mutual exclusion between coroutines across suspension, first come first served.
//
// Needed only where a change of state suspends half-way; code that does not suspend needs no lock,
// as all coroutines run on one thread. Loop thread only, no atomics. Unlocking hands the lock to
// the oldest waiter and resumes it at once, below the caller on the stack, so the depth of the
// stack is bounded by the number of waiters.
#pragma once

#include <cassert>
#include <coroutine>
#include <utility>

#include "loop/co_queue.h"

namespace imgconv {

class CoMutex {
 public:
  CoMutex() = default;
  CoMutex(const CoMutex&) = delete;
  CoMutex& operator=(const CoMutex&) = delete;
  ~CoMutex() { assert(!is_locked_); }

  /// Holds the lock until destroyed or unlock().
  class [[nodiscard]] Guard {
   public:
    explicit Guard(CoMutex& mutex) : mutex_(&mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() { unlock(); }
    void unlock() {
      if (CoMutex* const mutex = std::exchange(mutex_, nullptr)) mutex->release();
    }

   private:
    CoMutex* mutex_;
  };

  class [[nodiscard]] Lock {
   public:
    explicit Lock(CoMutex& mutex) : mutex_(mutex), waiter_(mutex.waiters_) {}
    bool await_ready() const noexcept { return !std::exchange(mutex_.is_locked_, true); }
    void await_suspend(std::coroutine_handle<> handle) noexcept { waiter_.await_suspend(handle); }
    Guard await_resume() const { return Guard(mutex_); }

   private:
    CoMutex& mutex_;
    CoQueue::Waiter waiter_;
  };

  /// auto guard = co_await mutex.lock();
  Lock lock() { return Lock(*this); }

  bool is_locked() const { return is_locked_; }

 private:
  void release() {
    // With a waiter the lock stays taken and only changes hands: nobody can slip in between.
    if (waiters_.is_empty()) {
      is_locked_ = false;
    } else {
      waiters_.wake_one();
    }
  }

  bool is_locked_ = false;
  CoQueue waiters_;
};

}  // namespace imgconv
