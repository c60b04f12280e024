// BhList: what the callback of a bottom half on the list of 5.0 sees of a scheduler that came
// together with it (V6), either by the flags, which say "is in the list already", or by the list
// itself. The wake-up is that of 5710a3e; it is not the subject here.
#pragma once

#include <cstdint>

#include "loop/history/history_sync.h"
#include "loop/history/requests.h"

namespace imgconv::history {

enum class BhListMeeting : uint8_t { kFlags, kList };

/// The gate of 5710a3e, for the variants whose subject it is not.
template <class Sync>
class StoreAndFenceGate {
 public:
  void announce() {
    notify_me_.store(1, std::memory_order_relaxed);
    Sync::fence(std::memory_order_seq_cst);
  }
  void withdraw() { notify_me_.store(0, std::memory_order_release); }
  bool must_notify() {
    Sync::fence(std::memory_order_seq_cst);
    return notify_me_.load(std::memory_order_relaxed) != 0;
  }
  uint32_t notify_me() const { return notify_me_.load(std::memory_order_relaxed); }

 private:
  typename Sync::template Atomic<uint32_t> notify_me_{0};
};

/// How many bottom halves wait in a list with concurrent insertion. The links are not of interest.
template <class Sync>
class BhCount {
 public:
  void insert() {
    uint32_t head = 0;
    while (!count_.compare_exchange_strong(head, head + 1, std::memory_order_seq_cst,
                                           std::memory_order_seq_cst)) {
    }
  }
  bool is_empty() const { return count_.load(std::memory_order_relaxed) == 0; }
  /// True if there were any.
  bool move() { return count_.exchange(0, std::memory_order_seq_cst) != 0; }
  uint32_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  typename Sync::template Atomic<uint32_t> count_{0};
};

template <class Sync, BhListMeeting kMeeting>
class BhList : public OnRequests<Sync> {
  using typename OnRequests<Sync>::Request;
  using typename OnRequests<Sync>::Word;
  using OnRequests<Sync>::requests_;

 public:
  bool post(Job& job) {
    schedule(requests_.add(job));
    return gate_.must_notify();
  }
  bool prepare() {
    gate_.announce();
    return is_idle();
  }
  void check(bool /*was_signalled*/) { gate_.withdraw(); }
  Job* dispatch() { return is_idle() ? nullptr : take_and_look(); }

  // The case file's program: with kFlags the bottom half is pending already.
  void before_program() {
    if constexpr (kMeeting == BhListMeeting::kFlags) {
      flags_.store(kPending | kScheduled, std::memory_order_relaxed);
    }
    this->add_request_of_program();
  }
  void loop_side() { (void)take_and_look(); }
  void worker_side() { schedule(*this->request_of_program_); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("notify_me", gate_.notify_me());
    visitor("flags", flags_.load(std::memory_order_relaxed));
    visitor("list", list_.count());
  }

 private:
  static constexpr uint32_t kPending = 1;
  static constexpr uint32_t kScheduled = 2;

  void schedule(Request& request) {
    request.done.store(request.serial(), std::memory_order_relaxed);
    if constexpr (kMeeting == BhListMeeting::kFlags) {
      flags_.fetch_or(kPending | kScheduled, std::memory_order_seq_cst);
    } else {
      list_.insert();
    }
  }

  bool is_idle() const {
    if constexpr (kMeeting == BhListMeeting::kFlags) {
      return flags_.load(std::memory_order_relaxed) == 0;
    }
    return list_.is_empty();
  }

  Job* take_and_look() {
    if constexpr (kMeeting == BhListMeeting::kFlags) {
      flags_.fetch_and(0, std::memory_order_seq_cst);
    } else {
      (void)list_.move();
    }
    return requests_.take_done();
  }

  StoreAndFenceGate<Sync> gate_;
  alignas(64) Word flags_{0};
  alignas(64) BhCount<Sync> list_;
};

}  // namespace imgconv::history
