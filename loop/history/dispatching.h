// Dispatching: the optimisation of 2014 (V1). Who schedules does not write the eventfd while some
// aio_poll is dispatching, since that one will look again. It is wrong when two threads poll: the
// one that dispatches is not the one that sleeps. A logic bug, on every machine.
//
// The words alone: schedule, notify, worker_side: any thread. prepare, event_loop_side: the event
// loop. take_scheduled: both who poll. The rest: the thread of the other aio_poll
// (nested_poller.h).
#pragma once

#include <cstdint>

#include "loop/history/history_sync.h"

namespace imgconv::history {

template <class Sync>
class Dispatching {
 public:
  bool schedule() { return scheduled_.exchange(1, std::memory_order_seq_cst) == 0; }
  bool notify() {
    Sync::fence(std::memory_order_seq_cst);
    return dispatching_.load(std::memory_order_relaxed) == 0;
  }

  bool prepare() { return scheduled_.load(std::memory_order_relaxed) == 0; }
  bool take_scheduled() { return scheduled_.exchange(0, std::memory_order_seq_cst) != 0; }

  void begin_nested() { dispatching_.store(1, std::memory_order_relaxed); }
  void end_nested() { dispatching_.store(0, std::memory_order_relaxed); }

  // The case file's program. The bottom half that the nested poll calls schedules itself, lest a
  // poll in a request's callback miss another request. True: write the eventfd.
  /// True: it stays awake.
  bool event_loop_side() { return !prepare(); }
  bool nested_side() {
    begin_nested();
    const bool must_signal = worker_side();
    end_nested();
    return must_signal;
  }
  bool worker_side() { return schedule() && notify(); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("dispatching", dispatching_.load(std::memory_order_relaxed));
    visitor("scheduled", scheduled_.load(std::memory_order_relaxed));
  }

 private:
  using Word = typename Sync::template Atomic<uint32_t>;
  alignas(64) Word dispatching_{0};
  alignas(64) Word scheduled_{0};
};

}  // namespace imgconv::history
