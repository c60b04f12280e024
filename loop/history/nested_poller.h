// NestedPoller: the 2014 protocol (V1, dispatching.h) with the third thread it takes: a virtual CPU
// that waits for a request of its own in an aio_poll, dispatches the completion bottom half, and
// leaves it scheduled for the event loop.
//
// A LoopProtocol but for the interface: post: any thread, the rest: loop thread. Starts its thread
// when made and joins it when destroyed.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "loop/event.h"
#include "loop/history/dispatching.h"
#include "loop/history/requests.h"

namespace imgconv::history {

template <class Sync>
class NestedPoller {
 public:
  NestedPoller() : thread_([this] { run(); }) {}
  NestedPoller(const NestedPoller&) = delete;
  NestedPoller& operator=(const NestedPoller&) = delete;
  ~NestedPoller() {
    // Published by the event: set() here, wait() in run().
    is_stopping_.store(true, std::memory_order_relaxed);
    request_done_.set();
    thread_.join();
  }

  bool post(Job& job) {
    jobs_.push(job);
    const bool must_signal = words_.worker_side();
    // Now and then the worker also finishes a request of the other thread. A count, which orders
    // nothing.
    if (num_posts_.fetch_add(1, std::memory_order_relaxed) % kPostsPerNestedPoll == 0) {
      request_done_.set();
    }
    return must_signal;
  }
  bool prepare() { return words_.prepare(); }
  void check(bool /*was_signalled*/) {}
  Job* dispatch() { return words_.take_scheduled() ? jobs_.drain() : nullptr; }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    words_.visit_words(visitor);
  }
  bool has_undelivered() const { return !jobs_.is_empty(); }
  Job* rescue() { return jobs_.drain(); }

 private:
  static constexpr uint32_t kPostsPerNestedPoll = 8;
  // What the callback of the other thread's request costs it, in turns.
  static constexpr int kCallbackTurns = 16;

  void run() {
    for (;;) {
      request_done_.wait();
      if (is_stopping_.load(std::memory_order_relaxed)) return;
      request_done_.reset();
      // The case's program begins when the bottom half is being called.
      const bool is_called = words_.take_scheduled();
      words_.begin_nested();
      if (is_called) (void)words_.worker_side();
      for (int i = 0; i < kCallbackTurns; ++i) Sync::relax();
      words_.end_nested();
      Sync::leave();
    }
  }

  Dispatching<Sync> words_;
  JobStack jobs_;
  Event request_done_;
  std::atomic<uint32_t> num_posts_{0};
  std::atomic<bool> is_stopping_{false};
  // The last member: it starts when the others are there.
  std::thread thread_;
};

}  // namespace imgconv::history
