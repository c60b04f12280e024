// Interrupt: lets a run that must not be left half-way end itself when a signal asks for it.
//
// While a guard lives, the first SIGINT, SIGTERM or SIGHUP only sets a flag, which the run looks at
// between steps; the second one kills as ever, for a run that does not get to its next step. When
// the guard goes, the signal that came has its way. One guard at a time, on the loop thread;
// is_pending() and
// pause_ns() on any thread.
#pragma once

#include <cstdint>

namespace imgconv {

class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  /// Does not return if a signal came: the process ends by it.
  ~InterruptGuard();

  /// Whether the run should clean up and end.
  static bool is_pending();
  /// Sleeps, but not beyond the signal. Without a guard signals have their way meanwhile.
  static void pause_ns(int64_t duration_ns);
};

}  // namespace imgconv
