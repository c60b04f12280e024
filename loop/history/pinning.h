// Binding the two sides of a hand-off to processors: threads that take turns on one show nothing of
// what memory does. Any thread.
#pragma once

#include <pthread.h>

#include <optional>

#include "loop/result.h"

namespace imgconv::history {

/// The processors that the two sides are bound to.
struct Pinning {
  unsigned loop_cpu = 0;
  unsigned pool_cpu = 0;
};

/// EINVAL: this machine has no such processor, or it is not ours.
Result<void> pin_thread(pthread_t thread, unsigned cpu);

/// Whether both sides can be bound, found out by trying. The calling thread is afterwards bound as
/// before.
Result<void> check_pinning(const Pinning& pinning);

/// Two processors that this process may use, far apart by number. None if there are no two.
std::optional<Pinning> any_two_processors();

}  // namespace imgconv::history
