// EventNotifier: an eventfd, the one thing a sleeping loop can be woken by from another thread.
//
// Carries no data. Whether a signal is needed at all is WakeGate's question (loop/wake_gate.h).
// set() may be called on any thread, the rest belongs to the thread that sleeps.
#pragma once

#include <cstdint>

#include "loop/unique_fd.h"

namespace imgconv {

class EventNotifier {
 public:
  /// Terminates the program when the system has no descriptor left: a process that cannot wake its
  /// own loop cannot do anything, and this is the first descriptor it opens.
  EventNotifier();

  void set();
  /// How often set() was called since the last time. Does not wait.
  uint64_t clear();
  int descriptor() const { return descriptor_.get(); }

 private:
  UniqueFd descriptor_;
};

}  // namespace imgconv
