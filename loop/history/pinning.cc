#include "loop/history/pinning.h"

#include <fmt/format.h>
#include <sched.h>

#include <cerrno>

#include "loop/try.h"

namespace imgconv::history {

Result<void> pin_thread(pthread_t thread, unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  const int error = pthread_setaffinity_np(thread, sizeof set, &set);
  if (error != 0)
    return Error::from_errno(error, fmt::format("Could not run on processor {}", cpu));
  return ok();
}

Result<void> check_pinning(const Pinning& pinning) {
  cpu_set_t before;
  CPU_ZERO(&before);
  const int error = pthread_getaffinity_np(pthread_self(), sizeof before, &before);
  if (error != 0) return Error::from_errno(error, "Could not ask for this process's processors");
  Result<void> result = pin_thread(pthread_self(), pinning.loop_cpu);
  if (result) result = pin_thread(pthread_self(), pinning.pool_cpu);
  const int restore_error = pthread_setaffinity_np(pthread_self(), sizeof before, &before);
  if (result && restore_error != 0) {
    return Error::from_errno(restore_error, "Could not go back to this process's processors");
  }
  return result;
}

std::optional<Pinning> any_two_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return std::nullopt;
  std::optional<Pinning> two;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    if (!two) two = Pinning{cpu, cpu};
    two->pool_cpu = cpu;
  }
  return two;
}

}  // namespace imgconv::history
