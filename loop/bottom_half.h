// BottomHalf: one pending call on the loop thread, schedulable from any thread. BottomHalfList: the
// protocol between those who schedule and the loop that dispatches. Neither sleeps nor wakes: the
// caller of schedule() kicks the loop's WakeGate when told so.
//
// A bottom half is a member of its owner, who takes it out with forget(), or it is on the heap and
// given up with retire(). A one-shot belongs to the list. The list does not touch a bottom half any
// more when it calls it, so a callback may destroy its own.
#pragma once

#include <cassert>
#include <cstdint>
#include <memory>
#include <utility>

#include "loop/inbox.h"
#include "loop/sync.h"

namespace imgconv {

template <class Sync>
class BasicBottomHalfList;

template <class Sync>
class BasicBottomHalf {
 public:
  using Callback = void (*)(void* opaque);

  BasicBottomHalf(Callback callback, void* opaque) : callback_(callback), opaque_(opaque) {}
  BasicBottomHalf(const BasicBottomHalf&) = delete;
  BasicBottomHalf& operator=(const BasicBottomHalf&) = delete;
  /// Requires: not in the list, that is, never scheduled, or called, forgotten or dropped since.
  ~BasicBottomHalf() { assert((flags_.load(std::memory_order_relaxed) & kPending) == 0); }

  /// For the list only. Written by the thread that turned kPending on, read by the one that turns
  /// it off.
  typename Sync::template Shared<BasicBottomHalf*> next{nullptr};

 private:
  friend class BasicBottomHalfList<Sync>;

  // kPending: in the list, or about to be put there by the thread that turned it on. Independent of
  // the others: a cancelled bottom half stays in the list until the next dispatch.
  static constexpr uint32_t kPending = 1;
  static constexpr uint32_t kScheduled = 2;
  static constexpr uint32_t kIdle = 4;
  static constexpr uint32_t kOneShot = 8;
  static constexpr uint32_t kDeleted = 16;

  const Callback callback_;
  void* const opaque_;
  typename Sync::template Atomic<uint32_t> flags_{0};
};

template <class Sync>
class BasicBottomHalfList {
 public:
  using BottomHalf = BasicBottomHalf<Sync>;
  using Callback = typename BottomHalf::Callback;

  BasicBottomHalfList() = default;
  BasicBottomHalfList(const BasicBottomHalfList&) = delete;
  BasicBottomHalfList& operator=(const BasicBottomHalfList&) = delete;
  /// Drops what is left uncalled. Owners may destroy their bottom halves afterwards.
  ~BasicBottomHalfList() {
    absorb();
    while (ready_ != nullptr) {
      BottomHalf* bh = std::exchange(ready_, ready_->next);
      if ((take(*bh) & (BottomHalf::kOneShot | BottomHalf::kDeleted)) != 0) delete bh;
    }
  }

  /// Any thread: `bh` will be called after this, once for all schedules before that call, and sees
  /// what each of those callers did before. True: the caller must kick the gate.
  [[nodiscard]] bool schedule(BottomHalf& bh) {
    return (enqueue(bh, BottomHalf::kScheduled) & BottomHalf::kScheduled) == 0;
  }

  /// As schedule(), but there is no hurry: the loop may sleep up to its idle limit before, and the
  /// call does not count as progress.
  [[nodiscard]] bool schedule_idle(BottomHalf& bh) {
    return (enqueue(bh, BottomHalf::kIdle) & (BottomHalf::kScheduled | BottomHalf::kIdle)) == 0;
  }

  /// Any thread: one call through a bottom half that the list allocates and frees. True: the caller
  /// must kick the gate.
  [[nodiscard]] bool schedule_oneshot(Callback callback, void* opaque) {
    auto bh = std::make_unique<BottomHalf>(callback, opaque);
    enqueue(*bh.release(), BottomHalf::kScheduled | BottomHalf::kOneShot);
    return true;
  }

  /// Any thread: undoes the schedules made so far. What their callers did before them is visible
  /// afterwards, so a caller that looks for their work itself misses nothing. It does not wait for
  /// a call that has begun.
  void cancel(BottomHalf& bh) {
    // A read-modify-write: a plain store would erase a schedule without having seen it (HANGS.md,
    // V10). Sees what the erased schedules announced.
    // Checked by tests/model/bottom_half_model.cc (mutant kBhCancel).
    bh.flags_.fetch_and(~(BottomHalf::kScheduled | BottomHalf::kIdle),
                        Sync::at(Site::kBhCancel, std::memory_order_acquire));
  }

  /// Any thread: gives up a bottom half on the heap. It is freed by a later dispatch or with the
  /// list, and is not called unless its call has begun. Requires: nobody schedules it any more.
  void retire(std::unique_ptr<BottomHalf> bh) { enqueue(*bh.release(), BottomHalf::kDeleted); }

  /// Loop thread: takes `bh` out uncalled, so that its owner may destroy it. Requires: no thread
  /// schedules it at the same time or later.
  void forget(BottomHalf& bh) {
    absorb();
    BottomHalf* previous = nullptr;
    for (BottomHalf* it = ready_; it != nullptr; previous = it, it = it->next) {
      if (it != &bh) continue;
      if (previous == nullptr) {
        ready_ = bh.next;
      } else {
        BottomHalf* after = bh.next;
        previous->next = after;
      }
      take(bh);
      return;
    }
  }

  /// Loop thread: calls what is due, oldest first; what is scheduled meanwhile waits for the next
  /// dispatch. True if any but idle ones ran. Nested dispatch from a callback also calls those that
  /// this one has not come to.
  bool dispatch() {
    bool progress = false;
    absorb();
    while (ready_ != nullptr) {
      BottomHalf* bh = std::exchange(ready_, ready_->next);
      const Callback callback = bh->callback_;
      void* const opaque = bh->opaque_;
      const uint32_t flags = take(*bh);
      // From here a bottom half that is not the list's may be gone or in the list again.
      const bool is_deleted = (flags & BottomHalf::kDeleted) != 0;
      if (is_deleted || (flags & BottomHalf::kOneShot) != 0) delete bh;
      if (is_deleted || (flags & (BottomHalf::kScheduled | BottomHalf::kIdle)) == 0) continue;
      callback(opaque);
      progress |= (flags & BottomHalf::kScheduled) != 0;
    }
    return progress;
  }

  /// Loop thread, the look for work after WakeGate::arm(): the loop must not sleep.
  bool has_due() { return has_any(BottomHalf::kScheduled); }
  /// Loop thread, also after arm(): the loop must limit its sleep.
  bool has_idle() { return has_any(BottomHalf::kIdle); }

 private:
  /// Turns `bits` on and puts `bh` into the list if it is not there. Returns the flags before.
  uint32_t enqueue(BottomHalf& bh, uint32_t bits) {
    // Meets take() in one word, and both are read-modify-writes: if this comes first, the call sees
    // what the caller did before; if it comes second, it finds kPending off and puts `bh` in again.
    // Release publishes the caller's work to take(); acquire makes the link ours to write.
    // Checked by tests/model/bottom_half_model.cc (mutants kBhPublish, kBhRelink).
    const uint32_t before = bh.flags_.fetch_or(bits | BottomHalf::kPending,
                                               Sync::at(Site::kBhRelink, Site::kBhPublish));
    // Whether the inbox was empty does not matter: who turned kScheduled on kicks in any case.
    if ((before & BottomHalf::kPending) == 0) inbox_.push(bh);
    return before;
  }

  /// Turns all but the ownership bits off. Returns the flags before. Requires: `bh` is out of the
  /// list and its link has been read.
  static uint32_t take(BottomHalf& bh) {
    // Acquire sees what every schedule so far announced; release hands the link to the next
    // enqueue(). Checked by tests/model/bottom_half_model.cc (mutants kBhTake, kBhUnlink).
    return bh.flags_.fetch_and(BottomHalf::kOneShot | BottomHalf::kDeleted,
                               Sync::at(Site::kBhTake, Site::kBhUnlink));
  }

  /// Moves what was pushed behind what is ready.
  void absorb() {
    if (inbox_.is_empty()) return;
    BottomHalf* pushed = inbox_.drain();
    if (ready_ == nullptr) {
      ready_ = pushed;
      return;
    }
    BottomHalf* last = ready_;
    while (last->next != nullptr) last = last->next;
    last->next = pushed;
  }

  bool has_any(uint32_t bits) {
    absorb();
    for (BottomHalf* bh = ready_; bh != nullptr; bh = bh->next) {
      // Flag only, ordered by the fence in WakeGate::arm().
      if ((bh->flags_.load(std::memory_order_relaxed) & bits) != 0) return true;
    }
    return false;
  }

  BasicInbox<BottomHalf, Sync> inbox_;
  // Loop thread only: in the order of their calls, linked by `next`.
  BottomHalf* ready_ = nullptr;
};

using BottomHalf = BasicBottomHalf<StdSync>;
using BottomHalfList = BasicBottomHalfList<StdSync>;

}  // namespace imgconv
