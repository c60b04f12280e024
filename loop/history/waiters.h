// Waiters: protocols of the series of 2023 that have no loop. The one who waits says so in a word
// and then looks at a condition; the one who makes the condition true then reads that word.
// QemuEvent (V7), AioWait (V8) and the hand-off of CoMutex (V9). Here the waiter takes the loop's
// place, the condition is that a request is done, and the futex or the kicked bottom half is the
// eventfd.
#pragma once

#include <cstdint>

#include "loop/history/history_sync.h"
#include "loop/history/requests.h"

namespace imgconv::history {

/// What the three have in common: the requests are the condition.
template <class Sync>
class ConditionOnRequests : public OnRequests<Sync> {
 public:
  Job* dispatch() { return this->requests_.take_done(); }
  void before_program() { this->add_request_of_program(); }
};

/// Old: reset() reads the value first and has no full fence.
enum class EventReset : uint8_t { kReadThenOr, kOrThenFence };

template <class Sync, EventReset kReset>
class QemuEvent : public ConditionOnRequests<Sync> {
  using typename OnRequests<Sync>::Request;
  using typename OnRequests<Sync>::Word;

 public:
  bool post(Job& job) { return set(this->requests_.add(job)); }
  bool prepare() { return !reset_and_look() && wait(); }
  void check(bool /*was_signalled*/) {}

  void loop_side() { (void)reset_and_look(); }
  void worker_side() { (void)set(*this->request_of_program_); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("event", value_.load(std::memory_order_relaxed));
  }

 private:
  static constexpr uint32_t kSet = 0;
  static constexpr uint32_t kFree = 1;
  // -1 in the sources: 4294967295 when printed without a sign, which is no corruption.
  static constexpr uint32_t kBusy = ~uint32_t{0};

  /// True: the condition holds.
  bool reset_and_look() {
    if constexpr (kReset == EventReset::kReadThenOr) {
      const uint32_t value = value_.load(std::memory_order_relaxed);
      Sync::fence(std::memory_order_acquire);
      if (value == kSet) value_.fetch_or(kFree, std::memory_order_seq_cst);
    } else {
      value_.fetch_or(kFree, std::memory_order_seq_cst);
      Sync::fence(std::memory_order_seq_cst);
    }
    return this->requests_.has_done(std::memory_order_relaxed);
  }

  /// True: the waiter may sleep.
  bool wait() {
    uint32_t seen = kFree;
    return value_.compare_exchange_strong(seen, kBusy, std::memory_order_seq_cst,
                                          std::memory_order_seq_cst) ||
           seen == kBusy;
  }

  /// True: somebody sleeps.
  bool set(Request& request) {
    request.done.store(request.serial(), std::memory_order_relaxed);
    Sync::fence(std::memory_order_seq_cst);
    if (value_.load(std::memory_order_relaxed) == kSet) return false;
    return value_.exchange(kSet, std::memory_order_seq_cst) == kBusy;
  }

  Word value_{kSet};
};

enum class Barriers : uint8_t { kNone, kBothSides };

template <class Sync, Barriers kBarriers>
class QemuAioWait : public ConditionOnRequests<Sync> {
  using typename OnRequests<Sync>::Request;
  using typename OnRequests<Sync>::Word;

 public:
  bool post(Job& job) { return kick(this->requests_.add(job)); }
  bool prepare() { return !enter_and_look(); }
  void check(bool /*was_signalled*/) { num_waiters_.fetch_sub(1, std::memory_order_seq_cst); }

  void loop_side() { (void)enter_and_look(); }
  void worker_side() { (void)kick(*this->request_of_program_); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("num_waiters", num_waiters_.load(std::memory_order_relaxed));
  }

 private:
  /// True: the condition holds.
  bool enter_and_look() {
    num_waiters_.fetch_add(1, std::memory_order_seq_cst);
    if constexpr (kBarriers == Barriers::kBothSides) Sync::fence(std::memory_order_seq_cst);
    return this->requests_.has_done(std::memory_order_relaxed);
  }
  bool kick(Request& request) {
    request.done.store(request.serial(), std::memory_order_relaxed);
    if constexpr (kBarriers == Barriers::kBothSides) Sync::fence(std::memory_order_seq_cst);
    return num_waiters_.load(std::memory_order_relaxed) != 0;
  }

  Word num_waiters_{0};
};

/// Old: the locker's look is an acquire load right after its compare-exchange.
enum class HandoffLook : uint8_t { kAcquire, kFenceThenRelaxed };

template <class Sync, HandoffLook kLook>
class QemuCoMutex : public ConditionOnRequests<Sync> {
  using typename OnRequests<Sync>::Request;
  using typename OnRequests<Sync>::Word;
  static constexpr std::memory_order kLookOrder =
      kLook == HandoffLook::kAcquire ? std::memory_order_acquire : std::memory_order_relaxed;

 public:
  bool post(Job& job) { return unlock(this->requests_.add(job)); }
  bool prepare() { return !push_and_look(); }
  void check(bool /*was_signalled*/) { pushed_.store(0, std::memory_order_relaxed); }

  void loop_side() { (void)push_and_look(); }
  void worker_side() { (void)unlock(*this->request_of_program_); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("from_push", pushed_.load(std::memory_order_relaxed));
  }

 private:
  /// True: somebody handed the mutex over.
  bool push_and_look() {
    uint32_t nobody = 0;
    pushed_.compare_exchange_strong(nobody, 1, std::memory_order_seq_cst,
                                    std::memory_order_seq_cst);
    if constexpr (kLook == HandoffLook::kFenceThenRelaxed) Sync::fence(std::memory_order_seq_cst);
    return this->requests_.has_done(kLookOrder);
  }
  /// True: somebody waits for it.
  bool unlock(Request& request) {
    Sync::mb_set(request.done, request.serial());
    return pushed_.load(std::memory_order_relaxed) != 0;
  }

  Word pushed_{0};
};

}  // namespace imgconv::history
