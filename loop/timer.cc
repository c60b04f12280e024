#include "loop/timer.h"

#include <chrono>

namespace imgconv {

int64_t steady_clock_ns() {
  using std::chrono::nanoseconds;
  using std::chrono::steady_clock;
  return std::chrono::duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

void Timer::arm_at(int64_t deadline_ns) {
  cancel();
  deadline_ns_ = deadline_ns;
  timers_.insert(*this);
}

void Timer::cancel() {
  if (!deadline_ns_) return;
  timers_.erase(*this);
  deadline_ns_.reset();
}

void TimerList::insert(Timer& timer) {
  timer.sequence_ = next_sequence_++;
  entries_.insert({*timer.deadline_ns_, timer.sequence_, &timer});
}

void TimerList::erase(Timer& timer) {
  entries_.erase({*timer.deadline_ns_, timer.sequence_, &timer});
}

std::optional<int64_t> TimerList::next_deadline_ns() const {
  if (entries_.empty()) return std::nullopt;
  return entries_.begin()->deadline_ns;
}

bool TimerList::dispatch(int64_t now_ns) {
  bool progress = false;
  const uint64_t end_sequence = next_sequence_;
  // Searched anew each time: a callback may arm, cancel or destroy any timer, or run a nested loop.
  for (;;) {
    auto due = entries_.begin();
    while (due != entries_.end() && due->deadline_ns <= now_ns && due->sequence >= end_sequence) {
      ++due;
    }
    if (due == entries_.end() || due->deadline_ns > now_ns) return progress;
    Timer& timer = *due->timer;
    timer.cancel();
    progress = true;
    // A copy, as the callback may destroy the timer and with it the original.
    const std::function<void()> callback = timer.callback_;
    callback();
  }
}

}  // namespace imgconv
