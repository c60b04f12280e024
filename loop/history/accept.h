// Accept: the `notified` flag of 2020. The loop computes whether there is work before it announces
// its sleep, and afterwards looks at `notified` only; so accepting a notification must not erase
// one whose bottom half it does not see (V11).
#pragma once

#include <cstdint>

#include "loop/history/bh_list.h"
#include "loop/history/history_sync.h"
#include "loop/history/requests.h"

namespace imgconv::history {

/// Which of the two meetings the case file's program shows; the protocol is one.
enum class AcceptProgram : uint8_t { kAccept, kSleep };

template <class Sync, AcceptProgram kProgram>
class Accept {
 public:
  bool post(Job& job) {
    jobs_.push(job);
    list_.insert();
    Sync::fence(std::memory_order_release);
    return notify();
  }
  bool prepare() {
    // As aio_poll: the timeout comes first.
    const bool is_idle = list_.is_empty();
    return announce_and_look() && is_idle;
  }
  void check(bool /*was_signalled*/) {
    notify_me_.store(0, std::memory_order_release);
    accept();
  }
  Job* dispatch() {
    if (list_.is_empty() || !list_.move()) return nullptr;
    return jobs_.drain();
  }

  // The case file's program.
  void before_program() {}
  void loop_side() {
    if constexpr (kProgram == AcceptProgram::kAccept) {
      accept();
      (void)list_.is_empty();
    } else {
      (void)announce_and_look();
    }
  }
  void worker_side() {
    if constexpr (kProgram == AcceptProgram::kAccept) {
      list_.insert();
      Sync::fence(std::memory_order_release);
      notified_.store(kNotified, std::memory_order_relaxed);
    } else {
      (void)notify();
    }
  }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("notify_me", notify_me_.load(std::memory_order_relaxed));
    visitor("notified", notified_.load(std::memory_order_relaxed));
    visitor("list", list_.count());
  }
  bool has_undelivered() const { return !jobs_.is_empty(); }
  Job* rescue() { return jobs_.drain(); }

 private:
  static constexpr uint32_t kNotified = 1;
  // Not the initial value: the case file asks whether the loop's or the worker's store is the last.
  static constexpr uint32_t kAccepted = 2;

  bool notify() {
    notified_.store(kNotified, std::memory_order_relaxed);
    Sync::fence(std::memory_order_seq_cst);
    return notify_me_.load(std::memory_order_relaxed) != 0;
  }
  /// True: nobody has notified.
  bool announce_and_look() {
    notify_me_.store(1, std::memory_order_relaxed);
    Sync::fence(std::memory_order_seq_cst);
    return notified_.load(std::memory_order_relaxed) != kNotified;
  }
  void accept() {
    notified_.store(kAccepted, std::memory_order_relaxed);
    Sync::fence(std::memory_order_seq_cst);
  }

  using Word = typename Sync::template Atomic<uint32_t>;
  alignas(64) Word notify_me_{0};
  alignas(64) Word notified_{0};
  alignas(64) BhCount<Sync> list_;
  alignas(64) JobStack jobs_;
};

}  // namespace imgconv::history
