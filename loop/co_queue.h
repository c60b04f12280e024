// CoQueue: where coroutines wait, first come first served, until somebody wakes them.
//
// The suspending counterpart of a condition variable: it holds no condition, so who was woken looks
// again at what it waited for. Loop thread only, no atomics. wake_*() resumes the waiter at once,
// below the caller on the stack. The queue must outlive its waiters and must be empty when it dies.
#pragma once

#include <cassert>
#include <coroutine>

namespace imgconv {

class CoQueue {
 public:
  CoQueue() = default;
  CoQueue(const CoQueue&) = delete;
  CoQueue& operator=(const CoQueue&) = delete;
  ~CoQueue() { assert(is_empty()); }

  /// Lives in the frame of the waiting coroutine and is the queue's link: waiting allocates
  /// nothing.
  class [[nodiscard]] Waiter {
   public:
    explicit Waiter(CoQueue& queue) : queue_(queue) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      handle_ = handle;
      queue_.append(*this);
    }
    void await_resume() const noexcept {}

   private:
    friend class CoQueue;
    CoQueue& queue_;
    std::coroutine_handle<> handle_;
    Waiter* next_ = nullptr;
  };

  /// co_await queue.wait(): suspends until woken.
  Waiter wait() { return Waiter(*this); }

  bool is_empty() const { return head_ == nullptr; }

  /// Resumes the oldest waiter. False if nobody waits.
  bool wake_one() {
    Waiter* const waiter = head_;
    if (waiter == nullptr) return false;
    head_ = waiter->next_;
    if (head_ == nullptr) tail_ = nullptr;
    waiter->handle_.resume();
    return true;
  }

  /// Resumes those who wait now; who waits again meanwhile stays.
  void wake_all() {
    Waiter* waiter = head_;
    head_ = tail_ = nullptr;
    while (waiter != nullptr) {
      // Read first: the waiter's frame may be gone after resume().
      Waiter* const next = waiter->next_;
      waiter->handle_.resume();
      waiter = next;
    }
  }

 private:
  void append(Waiter& waiter) {
    waiter.next_ = nullptr;
    (tail_ == nullptr ? head_ : tail_->next_) = &waiter;
    tail_ = &waiter;
  }

  Waiter* head_ = nullptr;
  Waiter* tail_ = nullptr;
};

}  // namespace imgconv
