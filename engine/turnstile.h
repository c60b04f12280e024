// Turnstile: lets coroutines through in the order of their tickets 0, 1, 2, ...
//
// Makes the layout of a target independent of which worker finishes reading first. Who was let in
// holds the turn until pass(). stop() lets everybody through with "no", so that an error never
// leaves a waiter behind. Loop thread only; owns nothing.
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace imgconv {

class Turnstile {
 public:
  Turnstile() = default;
  Turnstile(const Turnstile&) = delete;
  Turnstile& operator=(const Turnstile&) = delete;
  ~Turnstile() { assert(waiters_.empty()); }

  class [[nodiscard]] Entry {
   public:
    Entry(Turnstile& turnstile, uint64_t ticket) : turnstile_(turnstile), ticket_(ticket) {}
    bool await_ready() const noexcept {
      return turnstile_.is_stopped_ || turnstile_.current_ == ticket_;
    }
    void await_suspend(std::coroutine_handle<> waiter) {
      turnstile_.waiters_.push_back({ticket_, waiter});
    }
    /// False: the turnstile was stopped, there is nothing to do any more.
    bool await_resume() const noexcept { return !turnstile_.is_stopped_; }

   private:
    Turnstile& turnstile_;
    const uint64_t ticket_;
  };

  /// const bool may_go_on = co_await turnstile.enter(ticket);
  Entry enter(uint64_t ticket) { return Entry(*this, ticket); }

  /// Gives the turn to the next ticket; its holder, if it waits, runs before this returns.
  /// Requires: the caller holds the turn, or the turnstile was stopped.
  void pass() {
    ++current_;
    for (size_t i = 0; i < waiters_.size(); ++i) {
      if (waiters_[i].ticket != current_) continue;
      const std::coroutine_handle<> next = waiters_[i].handle;
      waiters_[i] = waiters_.back();
      waiters_.pop_back();
      next.resume();
      return;
    }
  }

  /// Releases every waiter, now and in future.
  void stop() {
    is_stopped_ = true;
    const std::vector<Waiter> released = std::exchange(waiters_, {});
    for (const Waiter& waiter : released) waiter.handle.resume();
  }

  bool is_stopped() const { return is_stopped_; }

 private:
  struct Waiter {
    uint64_t ticket;
    std::coroutine_handle<> handle;
  };

  uint64_t current_ = 0;
  bool is_stopped_ = false;
  std::vector<Waiter> waiters_;
};

}  // namespace imgconv
