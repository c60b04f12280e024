// Event: a flag that threads block on (a futex). For a thread that has no loop to run: a worker
// that waits for another, a test that waits for a thread. The loop thread never blocks on one.
//
// All members: any thread. The owner keeps the event alive until every set() and wait() returned.
#pragma once

#include <cstdint>

#include "loop/sync.h"

namespace imgconv {

template <class Sync>
class BasicEvent {
 public:
  BasicEvent() = default;
  BasicEvent(const BasicEvent&) = delete;
  BasicEvent& operator=(const BasicEvent&) = delete;

  /// Releases all who wait now, and lets later ones pass until reset(). What the caller did before
  /// is visible to whoever passes, and to whoever resets the event.
  void set() {
    // Only a guess for the first attempt below.
    uint32_t seen = state_.load(std::memory_order_relaxed);
    // Set and reset are both read-modify-writes of one word, so the later of the two reads from
    // the earlier: no fence is needed, and none can be forgotten. A shortcut "already set, do
    // nothing" by a plain load would need a full fence here and in reset() (HANGS.md, V7).
    // Publishes to wait() and reset(). Checked by tests/model/event_model.cc (mutant kEventSet).
    while (!state_.compare_exchange_weak(seen, next_generation(seen),
                                         Sync::at(Site::kEventSet, std::memory_order_release),
                                         std::memory_order_relaxed)) {
    }
    if ((seen & kAwaited) != 0) Sync::futex_wake_all(state_);
  }

  /// Later waiters block again. Look at the condition after this call, not before. Returns the
  /// number of set() calls so far, for wait_since().
  uint32_t reset() {
    // Sees what the set() that it undoes published, so the caller's look at the condition does too.
    // Checked by tests/model/event_model.cc (mutant kEventReset).
    return generation_of(
        state_.fetch_or(kUnset, Sync::at(Site::kEventReset, std::memory_order_acquire)));
  }

  /// Blocks until the event is set, or was set since this call began.
  void wait() {
    // Flag only: the order comes from the loads in wait_since().
    wait_since(generation_of(state_.load(std::memory_order_relaxed)));
  }

  /// Blocks until the event is set, or was set since the reset() that returned `generation`:
  /// another thread's reset() in between does no harm.
  /// Limit: a multiple of 2^30 calls of set() in between would go unseen.
  void wait_since(uint32_t generation) {
    for (;;) {
      // Sees what set() published.
      // Checked by tests/model/event_model.cc (mutant kEventWait).
      uint32_t seen = state_.load(Sync::at(Site::kEventWait, std::memory_order_acquire));
      if ((seen & kUnset) == 0 || generation_of(seen) != generation) return;
      // Flag only: tells set() that somebody sleeps. The futex compares again, atomically.
      if ((seen & kAwaited) == 0 &&
          !state_.compare_exchange_strong(seen, seen | kAwaited, std::memory_order_relaxed,
                                          std::memory_order_relaxed)) {
        continue;
      }
      Sync::futex_wait(state_, seen | kAwaited);
    }
  }

  /// Blocks until `condition()` holds. Whoever makes it true calls set() afterwards. Any number of
  /// threads may wait this way, each for a condition of its own. Leaves the event set or not.
  template <class Condition>
  void wait_until(Condition condition) {
    while (!condition()) {
      const uint32_t generation = reset();
      if (condition()) return;
      wait_since(generation);
    }
  }

 private:
  static constexpr uint32_t kUnset = 1;
  // Somebody sleeps, or is about to: the next set() owes a wake-up.
  static constexpr uint32_t kAwaited = 2;
  // The bits above count set() calls.
  static constexpr uint32_t kOneGeneration = 4;

  static constexpr uint32_t generation_of(uint32_t state) { return state / kOneGeneration; }
  static constexpr uint32_t next_generation(uint32_t state) {
    return (generation_of(state) + 1) * kOneGeneration;
  }

  typename Sync::template Atomic<uint32_t> state_{kUnset};
};

using Event = BasicEvent<StdSync>;

}  // namespace imgconv
