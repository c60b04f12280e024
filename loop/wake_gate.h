// WakeGate: decides whether a producer must signal the sleeping loop. It lets producers skip the
// system call while the loop is awake and never lets them skip it when the loop is about to sleep.
// It carries no data and owns no descriptor: the caller signals and clears the EventNotifier.
//
// arm, try_arm and disarm: loop thread. kick: any thread. README.md shows the two columns.
#pragma once

#include "loop/sync.h"

namespace imgconv {

template <class Sync>
class BasicWakeGate {
 public:
  BasicWakeGate() = default;
  BasicWakeGate(const BasicWakeGate&) = delete;
  BasicWakeGate& operator=(const BasicWakeGate&) = delete;

  /// Announces that the loop may sleep. The caller must look for work after this call, and not
  /// sleep if there is any; what it saw before does not count.
  void arm() {
    // Flag only, ordered by the fence below.
    armed_.store(true, std::memory_order_relaxed);
    // Orders the store above before the caller's look for work.
    // Pairs with the fence in kick(): one of the two threads must see the other's store.
    // Checked by tests/model/wake_gate_model.cc (mutant kGateArm).
    Sync::fence(std::memory_order_seq_cst, Site::kGateArm);
  }

  /// arm() and the look for work: true if the loop may sleep. Left disarmed when it may not.
  template <class HasWork>
  [[nodiscard]] bool try_arm(HasWork has_work) {
    arm();
    if (!has_work()) return true;
    disarm();
    return false;
  }

  /// The loop is awake. Late visibility costs a needless signal, nothing else.
  void disarm() {
    // Flag only: a producer that misses it signals a loop that is awake. A producer that sees it
    // published its work before the loop's next arm(), whose fence the look for work follows.
    armed_.store(false, std::memory_order_relaxed);
  }

  /// After publishing work: true if the caller must signal the notifier. At most one of several
  /// producers is told so per sleep.
  [[nodiscard]] bool kick() {
    // Orders the caller's publication before the load of armed_ below.
    // Pairs with the fence in arm(): one of the two threads must see the other's store.
    // Checked by tests/model/wake_gate_model.cc (mutant kGateKick).
    Sync::fence(std::memory_order_seq_cst, Site::kGateKick);
    // Flag only, ordered by the fence above; the load keeps the cache line shared while the loop
    // is awake. Whoever turns the flag off owes the signal, so the others may rely on it.
    return armed_.load(std::memory_order_relaxed) &&
           armed_.exchange(false, std::memory_order_relaxed);
  }

  /// For reports, which may be out of date when they are read.
  bool is_armed() const { return armed_.load(std::memory_order_relaxed); }

 private:
  typename Sync::template Atomic<bool> armed_{false};
};

using WakeGate = BasicWakeGate<StdSync>;

}  // namespace imgconv
