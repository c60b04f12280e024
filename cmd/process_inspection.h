// What /proc tells about the threads and event descriptors of another process, and what follows:
// a process whose threads all sleep without a limit in time, and whose events are not signalled,
// hangs. Pure reading; any thread. Limit: needs the right to trace the process.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace imgconv {

struct ThreadFacts {
  pid_t id = 0;
  std::string name;
  /// proc(5): R runs, S sleeps, T is stopped; a blank if the thread is gone.
  char state = ' ';
  /// Where in the kernel it sleeps; empty if it runs or that is secret.
  std::string wait_channel;
  struct SystemCall {
    long number = 0;
    std::array<uint64_t, 6> arguments{};
  };
  /// Nothing while it runs, or if that is secret.
  std::optional<SystemCall> system_call;
};

struct ProcessFacts {
  std::vector<ThreadFacts> threads;
  /// The counter of each eventfd.
  std::vector<uint64_t> event_counters;
};

ProcessFacts inspect_process(pid_t process);

/// "futex", "ppoll(no timeout)" or the number.
std::string describe_system_call(const ThreadFacts::SystemCall& system_call);

/// Nothing in the process will happen any more unless somebody outside does something.
bool sleeps_for_ever(const ProcessFacts& process);

/// Some thread sleeps until a time that it has set itself, so something will happen.
bool sleeps_for_a_while(const ProcessFacts& process);

/// Neither of the two can tell here: the system hides what threads wait for.
bool is_hidden(const ProcessFacts& process);

}  // namespace imgconv
