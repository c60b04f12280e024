// NotifyMe: the loop announces its sleep in notify_me, the worker schedules a bottom half and reads
// notify_me to decide whether to write the eventfd. LP#1805256 and every patch of that thread (V3),
// the bottom half list of 5.0 (V4) and 5710a3e (V5), which differ in the operations named in
// NotifyMeOptions and in nothing else. Not the shipped gate: that is current.h.
//
// As in loop_protocol.h: schedule and notify on any thread, the rest on the loop thread.
#pragma once

#include <cstdint>

#include "loop/history/history_sync.h"
#include "loop/history/requests.h"

namespace imgconv::history {

/// A lock as the case file has it: an exchange to take it, a store to release it.
template <class Sync>
class ExchangeLock {
 public:
  void lock() {
    while (word_.exchange(1, std::memory_order_acquire) != 0) Sync::relax();
  }
  void unlock() { word_.store(0, std::memory_order_release); }

 private:
  typename Sync::template Atomic<uint32_t> word_{0};
};

/// How the loop writes notify_me before it looks for work.
enum class Announce : uint8_t { kOr, kAdd, kStore, kCompareExchange, kGccSyncOr, kOrUnderMutex };
/// How it withdraws the announcement. kMark leaves a value that is neither "announced" nor the
/// initial one; the case file uses it to tell a cleared notify_me from an old one.
enum class Withdraw : uint8_t { kAnd, kSubtract, kStore, kMark, kAndUnderMutex };
/// How the worker makes the bottom half pending, in the word that the loop looks at.
enum class Schedule : uint8_t { kExchange, kStoreRelease, kOneshotUnderLock, kList };
/// How the worker reads notify_me.
enum class Notify : uint8_t {
  kFenceThenLoad,
  kLoad,
  kLoadAcquire,
  kLoadSeqCst,
  kLoadUnderMutex,
  kAlways,
};

struct NotifyMeOptions {
  Announce announce = Announce::kOr;
  /// The event source's bit; each blocking aio_poll adds 2.
  uint32_t announced = 1;
  std::memory_order announce_order = std::memory_order_seq_cst;
  bool announce_fence = false;
  Withdraw withdraw = Withdraw::kAnd;
  /// kMark's value.
  uint32_t mark = 0;
  std::memory_order look_order = std::memory_order_relaxed;
  /// Whether check() reads the word of pending work again.
  bool check_looks = false;
  Schedule schedule = Schedule::kExchange;
  Notify notify = Notify::kFenceThenLoad;
  /// Keeps the list's lock off the cache line of notify_me, where QEMU had both.
  bool is_padded = false;
  /// The case file's program begins with the check() of the round before.
  bool program_begins_with_check = false;
  /// The case file's program goes on to check().
  bool program_ends_with_check = false;
};

template <class Sync, NotifyMeOptions kOptions>
class NotifyMe {
 public:
  using Word = typename Sync::template Atomic<uint32_t>;

  bool post(Job& job) {
    jobs_.push(job);
    if constexpr (kOptions.schedule == Schedule::kOneshotUnderLock) list_lock_.lock();
    return schedule() && notify();
  }

  /// True: the caller goes on to notify().
  bool schedule() {
    if constexpr (kOptions.schedule == Schedule::kExchange) {
      return pending_.exchange(1, std::memory_order_seq_cst) == 0;
    } else if constexpr (kOptions.schedule == Schedule::kStoreRelease) {
      pending_.store(1, std::memory_order_release);
    } else if constexpr (kOptions.schedule == Schedule::kOneshotUnderLock) {
      // Requires: list_lock_ is held. The bottom half's fields come before its link.
      Sync::fence(std::memory_order_release);
      pending_.store(1, std::memory_order_relaxed);
      list_lock_.unlock();
    } else {
      const uint32_t before = flags_.fetch_or(kBhPending | kBhScheduled, std::memory_order_seq_cst);
      // There is one bottom half, so a list that it is not in is empty.
      uint32_t empty = 0;
      if ((before & kBhPending) == 0) {
        pending_.compare_exchange_strong(empty, 1, std::memory_order_seq_cst,
                                         std::memory_order_seq_cst);
      }
    }
    return true;
  }

  /// True: write the eventfd.
  bool notify() {
    if constexpr (kOptions.notify == Notify::kLoadUnderMutex) {
      mutex_.lock();
      const uint32_t seen = notify_me_.load(std::memory_order_relaxed);
      mutex_.unlock();
      return is_announced(seen);
    }
    if constexpr (kOptions.notify == Notify::kFenceThenLoad || kOptions.notify == Notify::kAlways) {
      Sync::fence(std::memory_order_seq_cst);
    }
    if constexpr (kOptions.notify == Notify::kAlways) {
      signalled_.store(1, std::memory_order_relaxed);
      return true;
    } else if constexpr (kOptions.notify == Notify::kLoadAcquire) {
      return is_announced(notify_me_.load(std::memory_order_acquire));
    } else if constexpr (kOptions.notify == Notify::kLoadSeqCst) {
      return is_announced(notify_me_.load(std::memory_order_seq_cst));
    } else {
      return is_announced(notify_me_.load(std::memory_order_relaxed));
    }
  }

  /// True: the loop may sleep.
  bool prepare() {
    announce();
    return pending_.load(kOptions.look_order) == 0;
  }

  void check(bool /*was_signalled*/) {
    if constexpr (kOptions.withdraw == Withdraw::kMark) {
      notify_me_.exchange(kOptions.mark, std::memory_order_seq_cst);
    } else if constexpr (kOptions.withdraw == Withdraw::kAnd) {
      notify_me_.fetch_and(~kOptions.announced, std::memory_order_seq_cst);
    } else if constexpr (kOptions.withdraw == Withdraw::kSubtract) {
      notify_me_.fetch_sub(kOptions.announced, std::memory_order_seq_cst);
    } else if constexpr (kOptions.withdraw == Withdraw::kAndUnderMutex) {
      mutex_.lock();
      notify_me_.fetch_and(~kOptions.announced, std::memory_order_seq_cst);
      mutex_.unlock();
    } else {
      notify_me_.store(0, std::memory_order_release);
    }
    // dispatch() looks by itself, so what is found here changes nothing.
    if constexpr (kOptions.check_looks) (void)pending_.load(std::memory_order_acquire);
  }

  Job* dispatch() { return take_pending() ? jobs_.drain() : nullptr; }

  // The case file's program, and what precedes it.
  void before_program() {
    if constexpr (kOptions.schedule == Schedule::kOneshotUnderLock) list_lock_.lock();
  }
  void loop_side() {
    if constexpr (kOptions.program_begins_with_check) check(true);
    (void)prepare();
    if constexpr (kOptions.program_ends_with_check) check(true);
  }
  void worker_side() { (void)(schedule() && notify()); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("notify_me", notify_me_.load(std::memory_order_relaxed));
    visitor("pending", pending_.load(std::memory_order_relaxed));
    if constexpr (kOptions.schedule == Schedule::kList) {
      visitor("flags", flags_.load(std::memory_order_relaxed));
    }
  }
  bool has_undelivered() const { return !jobs_.is_empty(); }
  Job* rescue() { return jobs_.drain(); }

 private:
  static constexpr uint32_t kBhPending = 1;
  static constexpr uint32_t kBhScheduled = 2;

  static bool is_announced(uint32_t value) { return (value & kOptions.announced) != 0; }

  void announce() {
    constexpr std::memory_order kOrder = kOptions.announce_order;
    if constexpr (kOptions.announce == Announce::kOr) {
      notify_me_.fetch_or(kOptions.announced, kOrder);
    } else if constexpr (kOptions.announce == Announce::kAdd) {
      notify_me_.fetch_add(kOptions.announced, kOrder);
    } else if constexpr (kOptions.announce == Announce::kStore) {
      notify_me_.store(kOptions.announced, kOrder);
    } else if constexpr (kOptions.announce == Announce::kCompareExchange) {
      uint32_t withdrawn = 0;
      notify_me_.compare_exchange_strong(withdrawn, kOptions.announced, kOrder,
                                         std::memory_order_relaxed);
    } else if constexpr (kOptions.announce == Announce::kGccSyncOr) {
      Sync::sync_fetch_or(notify_me_, kOptions.announced);
    } else {
      mutex_.lock();
      notify_me_.fetch_or(kOptions.announced, kOrder);
      mutex_.unlock();
    }
    if constexpr (kOptions.announce_fence) Sync::fence(std::memory_order_seq_cst);
  }

  /// All read-modify-writes, or under the lock: what the scheduler did before is visible.
  bool take_pending() {
    if constexpr (kOptions.schedule == Schedule::kOneshotUnderLock) {
      list_lock_.lock();
      const bool was_pending = pending_.load(std::memory_order_relaxed) != 0;
      pending_.store(0, std::memory_order_relaxed);
      list_lock_.unlock();
      return was_pending;
    }
    if (pending_.exchange(0, std::memory_order_seq_cst) == 0) return false;
    if constexpr (kOptions.schedule == Schedule::kList) {
      flags_.fetch_and(~(kBhPending | kBhScheduled), std::memory_order_seq_cst);
    }
    return true;
  }

  // Words that race are on cache lines of their own; what shares the line of notify_me is as QEMU
  // had it.
  alignas(64) Word notify_me_{0};
  alignas(kOptions.is_padded ? 64 : alignof(ExchangeLock<Sync>)) ExchangeLock<Sync> list_lock_;
  // bh->scheduled, the head of the one-shot list, or the head of the list of 5.0.
  alignas(64) Word pending_{0};
  alignas(64) Word flags_{0};
  // The eventfd's counter, as far as the case file has it.
  Word signalled_{0};
  ExchangeLock<Sync> mutex_;
  alignas(64) JobStack jobs_;
};

}  // namespace imgconv::history
