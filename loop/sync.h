// The synchronisation policy of the wake-up protocols: which atomics, fences and futex calls they
// are made of. StdSync is what ships; tests/model/relacy_sync.h is the same set of names over the
// Relacy checker, so that the code that ships is the code that is checked (decision L3).
//
// Not for anything above loop/: metadata and coroutines live on the loop thread, without atomics.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace imgconv {

/// Every place whose memory order is load-bearing. The tag costs nothing in the product; a model
/// program weakens one place at a time (a fence vanishes, another order becomes relaxed) and must
/// see the protocol fail. A place that can be weakened without a failure has no business here.
enum class Site : uint8_t {
  kGateArm,     // WakeGate::arm, fence
  kGateKick,    // WakeGate::kick, fence
  kInboxPush,   // Inbox::push, release
  kInboxDrain,  // Inbox::drain, acquire
  kEventSet,    // Event::set, release
  kEventReset,  // Event::reset, acquire
  kEventWait,   // Event::wait, acquire
  kWaitEnter,   // AioWait::wait_until, fence
  kWaitKick,    // AioWait::kick, fence
  kBhPublish,   // BottomHalfList::enqueue, release: what the caller announces
  kBhRelink,    // BottomHalfList::enqueue, acquire: the link is free again
  kBhTake,      // BottomHalfList::take, acquire: what was announced
  kBhUnlink,    // BottomHalfList::take, release: the link has been read
  kBhCancel,    // BottomHalfList::cancel, acquire: what was announced
};

struct StdSync {
  template <class T>
  using Atomic = std::atomic<T>;

  /// Plain data that a protocol hands from thread to thread. The checker's version reports a race.
  template <class T>
  using Shared = T;

  static void fence(std::memory_order order, Site /*site*/) { std::atomic_thread_fence(order); }

  /// The order of an operation at `site`.
  static constexpr std::memory_order at(Site /*site*/, std::memory_order order) { return order; }
  /// The order of a read-modify-write that carries two load-bearing halves.
  static constexpr std::memory_order at(Site /*acquire_site*/, Site /*release_site*/) {
    return std::memory_order_acq_rel;
  }

  /// Sleeps while `word` holds `expected`; returns at a wake-up, at a signal, or for no reason.
  static void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
  }
  static void futex_wake_all(std::atomic<uint32_t>& word) {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
};

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "the futex word is the atomic");

}  // namespace imgconv
