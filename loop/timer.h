// Timer: a call on the loop thread at a point of the steady clock. TimerList: those that are armed,
// earliest first; AioContext asks it how long it may sleep.
//
// A timer is one-shot and may be armed again, also from its own callback. It is a member of its
// owner; destroying it cancels it, also from its own callback. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <utility>

namespace imgconv {

/// Nanoseconds of CLOCK_MONOTONIC.
int64_t steady_clock_ns();

class TimerList;

class Timer {
 public:
  /// `timers` is AioContext::timers() and must outlive the timer.
  Timer(TimerList& timers, std::function<void()> callback)
      : timers_(timers), callback_(std::move(callback)) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { cancel(); }

  /// Replaces an earlier deadline.
  void arm_at(int64_t deadline_ns);
  void arm_after(int64_t delay_ns) { arm_at(steady_clock_ns() + delay_ns); }
  void cancel();
  bool is_armed() const { return deadline_ns_.has_value(); }

 private:
  friend class TimerList;

  TimerList& timers_;
  std::function<void()> callback_;
  std::optional<int64_t> deadline_ns_;
  // Place among the armed timers of the same deadline; see TimerList::Entry.
  uint64_t sequence_ = 0;
};

class TimerList {
 public:
  /// The earliest deadline, if any timer is armed.
  std::optional<int64_t> next_deadline_ns() const;
  /// Calls the timers whose time has come at `now_ns`, earliest first. One that is armed meanwhile,
  /// even for the past, waits for the next call. True if any was called.
  bool dispatch(int64_t now_ns);

 private:
  friend class Timer;

  // The sequence number keeps timers of equal deadline in the order of arming.
  struct Entry {
    int64_t deadline_ns;
    uint64_t sequence;
    Timer* timer;
    bool operator<(const Entry& other) const {
      return std::pair(deadline_ns, sequence) < std::pair(other.deadline_ns, other.sequence);
    }
  };

  void insert(Timer& timer);
  void erase(Timer& timer);

  std::set<Entry> entries_;
  uint64_t next_sequence_ = 0;
};

}  // namespace imgconv
