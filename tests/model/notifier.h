// The model's eventfd and the sleeping half of a loop over it, for the protocols that end in one.
#pragma once

#include "tests/model/relacy_sync.h"

#include "loop/wake_gate.h"

namespace imgconv::model {

/// A signal that stays until it is taken. All relaxed: it wakes, but publishes nothing, although an
/// eventfd does; what the protocols publish must not depend on whether the loop slept.
class Notifier {
 public:
  void set() {
    signalled_.exchange(1, std::memory_order_relaxed);
    RelacySync::futex_wake_all(signalled_);
  }
  void wait_and_clear() {
    while (signalled_.exchange(0, std::memory_order_relaxed) == 0) {
      RelacySync::futex_wait(signalled_, 0);
    }
  }

 private:
  RelacySync::Atomic<uint32_t> signalled_{0};
};

/// What AioContext does between two dispatches, and what its producers do after publishing.
class Sleeper {
 public:
  template <class HasWork>
  void sleep_unless(HasWork has_work) {
    if (!gate_.try_arm(has_work)) return;
    notifier_.wait_and_clear();
    gate_.disarm();
  }
  void kick() {
    if (gate_.kick()) notifier_.set();
  }
  /// Another reason to wake up, such as a completion of the ring.
  void wake_for_another_reason() { notifier_.set(); }

 private:
  BasicWakeGate<RelacySync> gate_;
  Notifier notifier_;
};

}  // namespace imgconv::model
