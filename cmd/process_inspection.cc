#include "cmd/process_inspection.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace imgconv {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

/// proc(5): "running", or number, six arguments in hexadecimal, stack and program counter.
std::optional<ThreadFacts::SystemCall> parse_system_call(const std::string& line) {
  std::istringstream words(line);
  ThreadFacts::SystemCall call;
  // -1: blocked, but not in a system call.
  if (!(words >> call.number) || call.number < 0) return std::nullopt;
  words >> std::hex;
  for (uint64_t& argument : call.arguments) {
    std::string prefix_and_digits;
    if (!(words >> prefix_and_digits)) return std::nullopt;
    argument = std::strtoull(prefix_and_digits.c_str(), nullptr, 16);
  }
  return call;
}

/// proc(5): number, name in parentheses (which may hold some itself), state.
char parse_state(const std::string& stat) {
  const size_t name_end = stat.rfind(") ");
  return name_end == std::string::npos || name_end + 2 >= stat.size() ? ' ' : stat[name_end + 2];
}

ThreadFacts inspect_thread(const fs::path& folder) {
  ThreadFacts thread;
  thread.id = static_cast<pid_t>(std::strtol(folder.filename().c_str(), nullptr, 10));
  thread.name = first_line(folder / "comm");
  thread.wait_channel = first_line(folder / "wchan");
  thread.state = parse_state(first_line(folder / "stat"));
  if (thread.wait_channel == "0") thread.wait_channel.clear();
  thread.system_call = parse_system_call(first_line(folder / "syscall"));
  return thread;
}

/// fdinfo of an eventfd has a line "eventfd-count: " with a hexadecimal number.
std::optional<uint64_t> event_counter(const fs::path& fdinfo) {
  constexpr std::string_view kLabel = "eventfd-count:";
  std::ifstream stream(fdinfo);
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with(kLabel)) return std::strtoull(line.c_str() + kLabel.size(), nullptr, 16);
  }
  return std::nullopt;
}

/// The process may end meanwhile: what is not there any more is left out.
template <class Visit>
void for_each_entry(const fs::path& folder, Visit visit) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) visit(entry->path());
}

bool is_endless_poll(const ThreadFacts::SystemCall& call) {
  return call.number == SYS_ppoll && call.arguments[2] == 0;
}

bool is_endless_futex(const ThreadFacts::SystemCall& call) {
  const auto operation = static_cast<int>(call.arguments[1]) & FUTEX_CMD_MASK;
  return call.number == SYS_futex && call.arguments[3] == 0 &&
         (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET);
}

/// Of the calls that our loop and its threads sleep in. A stopped thread may stay in such a call
/// for longer than it asked for.
bool is_sleep_with_limit(const ThreadFacts& thread) {
  if (!thread.system_call || thread.state != 'S') return false;
  const ThreadFacts::SystemCall& call = *thread.system_call;
  switch (call.number) {
    case SYS_ppoll:
      return call.arguments[2] != 0;
    case SYS_futex:
      return call.arguments[3] != 0;
    case SYS_clock_nanosleep:
      return true;
    default:
      return false;
  }
}

}  // namespace

ProcessFacts inspect_process(pid_t process) {
  const fs::path folder = fmt::format("/proc/{}", process);
  ProcessFacts facts;
  for_each_entry(folder / "task", [&facts](const fs::path& thread) {
    facts.threads.push_back(inspect_thread(thread));
  });
  std::sort(facts.threads.begin(), facts.threads.end(),
            [](const ThreadFacts& a, const ThreadFacts& b) { return a.id < b.id; });
  for_each_entry(folder / "fdinfo", [&facts](const fs::path& descriptor) {
    if (const auto counter = event_counter(descriptor)) facts.event_counters.push_back(*counter);
  });
  return facts;
}

std::string describe_system_call(const ThreadFacts::SystemCall& call) {
  switch (call.number) {
    case SYS_ppoll:
      return call.arguments[2] == 0 ? "ppoll, no timeout" : "ppoll, with timeout";
    case SYS_futex:
      return call.arguments[3] == 0 ? "futex, no timeout" : "futex, with timeout";
    default:
      return fmt::format("system call {}", call.number);
  }
}

bool sleeps_for_ever(const ProcessFacts& process) {
  const bool all_sleep =
      std::all_of(process.threads.begin(), process.threads.end(), [](const ThreadFacts& thread) {
        return thread.system_call &&
               (is_endless_poll(*thread.system_call) || is_endless_futex(*thread.system_call));
      });
  const bool is_signalled =
      std::any_of(process.event_counters.begin(), process.event_counters.end(),
                  [](uint64_t counter) { return counter != 0; });
  return !process.threads.empty() && all_sleep && !is_signalled;
}

bool sleeps_for_a_while(const ProcessFacts& process) {
  return std::any_of(process.threads.begin(), process.threads.end(), is_sleep_with_limit);
}

bool is_hidden(const ProcessFacts& process) {
  return std::none_of(process.threads.begin(), process.threads.end(),
                      [](const ThreadFacts& thread) { return thread.system_call.has_value(); });
}

}  // namespace imgconv
