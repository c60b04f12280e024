// AioContext: the loop. One thread runs it; everything that suspends comes back through it.
//
// One round has four phases: prepare (submit batches, arm the gate, decide how long to sleep), poll
// (ppoll on the event descriptor and the sources), check (disarm, clear, accept what other threads
// posted), dispatch (bottom halves, finished jobs, sources, timers). Callbacks may run nested
// rounds (run_once from a callback, see loop/aio_wait.h). The thread that constructs it is the loop
// thread; post(), schedule(), resume() and notify() may be called on any thread, the rest only
// there. It owns none of what is registered or posted.
#pragma once

#include <poll.h>

#include <coroutine>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "loop/bottom_half.h"
#include "loop/event_notifier.h"
#include "loop/executor.h"
#include "loop/inbox.h"
#include "loop/timer.h"
#include "loop/wake_gate.h"

namespace imgconv {

namespace history {
class LoopProtocol;
}

/// Something with a descriptor that the loop serves: the ring, later a socket.
class EventSource {
 public:
  virtual ~EventSource() = default;
  virtual int descriptor() const = 0;
  /// Called in each round before the loop may sleep: submit what was gathered. May schedule.
  virtual void prepare() {}
  /// True if dispatch() would find something without a system call. The loop does not sleep then.
  virtual bool has_ready() const { return false; }
  /// Called in each round; `is_readable` if ppoll said so. True if anything was done.
  virtual bool dispatch(bool is_readable) = 0;
};

class AioContext {
 public:
  /// `protocol` takes the place of gate and inbox for posted jobs (decision L6); null but in the
  /// reproducer. Must outlive the loop.
  explicit AioContext(history::LoopProtocol* protocol = nullptr);
  AioContext(const AioContext&) = delete;
  AioContext& operator=(const AioContext&) = delete;
  /// Requires: no source is registered and no posted job waits.
  ~AioContext();

  /// Sleeps if need be until something was dispatched. Always true. Requires: something will
  /// happen.
  bool run_once();
  /// Dispatches what is ready, without sleeping. False if there was nothing.
  bool poll_once();

  /// Any thread: `job.run()` is over; complete() will be called on the loop thread.
  void post(Job& job);
  /// Any thread: the bottom half will be called.
  void schedule(BottomHalf& bottom_half);
  /// As schedule(), but it does not keep the loop busy: the call comes within 10 ms.
  void schedule_idle(BottomHalf& bottom_half);
  /// Any thread: one call of `callback(opaque)`.
  void schedule_oneshot(BottomHalf::Callback callback, void* opaque);
  /// Any thread: resumes the coroutine on the loop thread, its home.
  void resume(std::coroutine_handle<> coroutine);
  /// Any thread: the present or the next run_once() returns.
  void notify();

  /// Takes a bottom half out uncalled, so that its owner may destroy it.
  void forget(BottomHalf& bottom_half) { bottom_halves_.forget(bottom_half); }

  TimerList& timers() { return timers_; }
  /// co_await loop.sleep_ns(n).
  class Sleep;
  Sleep sleep_ns(int64_t delay_ns);

  void add_source(EventSource& source);
  /// Also from a callback of the source itself.
  void remove_source(EventSource& source);

  bool is_loop_thread() const { return std::this_thread::get_id() == thread_; }

  /// How many rounds there were, in how many of them the loop went to the kernel to wait or look,
  /// and how often other threads signalled it.
  struct Statistics {
    uint64_t rounds = 0;
    uint64_t polls = 0;
    uint64_t signals_received = 0;
  };
  const Statistics& statistics() const { return statistics_; }

 private:
  struct Registration {
    EventSource* source;
    bool is_readable;
  };

  bool run_round(bool may_sleep);
  // The four phases.
  std::optional<int64_t> prepare(bool may_sleep);
  void poll(std::optional<int64_t> timeout_ns);
  void check();
  bool dispatch();

  bool has_work();
  void accept(Job* jobs);
  bool dispatch_jobs();
  bool dispatch_sources();
  void wake_if_asleep();

  const std::thread::id thread_;
  history::LoopProtocol* const protocol_;
  WakeGate gate_;
  EventNotifier notifier_;
  Inbox<Job> inbox_;
  BottomHalfList bottom_halves_;
  BottomHalf notify_;

  // Everything below: loop thread only.
  TimerList timers_;
  // Jobs taken from the inbox, in order. A member, so that a nested round goes on with them.
  Job* ready_jobs_ = nullptr;
  Job* last_ready_job_ = nullptr;
  std::vector<Registration> sources_;
  std::vector<pollfd> poll_descriptors_;
  bool was_signalled_ = false;
  unsigned rounds_without_poll_ = 0;
  Statistics statistics_;
};

class [[nodiscard]] AioContext::Sleep {
 public:
  Sleep(AioContext& loop, int64_t delay_ns)
      : timer_(loop.timers(), [this] { waiter_.resume(); }), delay_ns_(delay_ns) {}
  bool await_ready() const noexcept { return delay_ns_ <= 0; }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    timer_.arm_after(delay_ns_);
  }
  void await_resume() const noexcept {}

 private:
  Timer timer_;
  const int64_t delay_ns_;
  std::coroutine_handle<> waiter_;
};

inline AioContext::Sleep AioContext::sleep_ns(int64_t delay_ns) { return Sleep(*this, delay_ns); }

}  // namespace imgconv
