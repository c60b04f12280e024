// AioWait: the loop thread runs its loop until a condition holds that another thread makes true.
// For synchronous callers at the edge (joining the pool, closing the runtime), not for coroutines:
// those suspend.
//
// wait_until: loop thread, may nest. kick: any thread. The AioWait outlives its kickers.
#pragma once

#include <cstdint>

#include "loop/sync.h"

namespace imgconv {

template <class Sync>
class BasicAioWait {
 public:
  BasicAioWait() = default;
  BasicAioWait(const BasicAioWait&) = delete;
  BasicAioWait& operator=(const BasicAioWait&) = delete;

  /// Calls `run_once()`, which blocks until something happened, until `condition()` holds.
  template <class Condition, class RunOnce>
  void wait_until(Condition condition, RunOnce run_once) {
    // Flag only, ordered by the fence below.
    num_waiters_.fetch_add(1, std::memory_order_relaxed);
    // Orders the store above before the look at the condition.
    // Pairs with the fence in kick(): one of the two threads must see the other's store. One fence
    // is enough for the whole loop, as the wake-up of a kick is not forgotten until it was seen.
    // Checked by tests/model/aio_wait_model.cc (mutant kWaitEnter).
    Sync::fence(std::memory_order_seq_cst, Site::kWaitEnter);
    while (!condition()) run_once();
    // Flag only: a kicker that misses it wakes the loop for nothing.
    num_waiters_.fetch_sub(1, std::memory_order_relaxed);
  }

  /// After a change that may make a condition true. Calls `wake()` if somebody may be waiting;
  /// wake() makes the present or the next run_once() return (schedule a bottom half).
  template <class Wake>
  void kick(Wake wake) {
    // Orders the caller's change before the load of num_waiters_ below.
    // Pairs with the fence in wait_until().
    // Checked by tests/model/aio_wait_model.cc (mutant kWaitKick).
    Sync::fence(std::memory_order_seq_cst, Site::kWaitKick);
    // Flag only, ordered by the fence above.
    if (num_waiters_.load(std::memory_order_relaxed) != 0) wake();
  }

 private:
  typename Sync::template Atomic<uint32_t> num_waiters_{0};
};

using AioWait = BasicAioWait<StdSync>;

}  // namespace imgconv
