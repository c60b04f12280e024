#include "cmd/process_inspection.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <thread>

#include "cmd/child_process.h"
#include "loop/timer.h"

namespace imgconv {
namespace {

constexpr int64_t kMsNs = 1'000'000;

/// Looks until it is so, or a minute is over.
template <class Condition>
bool becomes(pid_t process, SignalWait& signals, Condition condition) {
  const int64_t deadline_ns = steady_clock_ns() + 60'000 * kMsNs;
  while (!condition(inspect_process(process))) {
    if (steady_clock_ns() > deadline_ns) return false;
    signals.wait_ns(kMsNs);
  }
  return true;
}

int poll_on(int descriptor, const timespec* timeout) {
  pollfd wanted{descriptor, 0, 0};
  return ::ppoll(&wanted, 1, timeout, nullptr);
}

}  // namespace

// ThreadSanitizer runs a thread of its own in every process, and that one wakes again and again.
#ifndef __SANITIZE_THREAD__
TEST_CASE("Process: all threads in endless waits means that it sleeps for ever", "[cmd]") {
  SignalWait signals;
  const int event = ::eventfd(0, EFD_NONBLOCK);
  auto child = ChildProcess::start([event] {
    std::thread other([event] { poll_on(event, nullptr); });
    return poll_on(event, nullptr);
  });
  REQUIRE(child);
  CHECK(becomes(child->id(), signals, [](const ProcessFacts& facts) {
    return facts.threads.size() == 2 && sleeps_for_ever(facts);
  }));
  // An event that is signalled will wake somebody.
  const uint64_t one = 1;
  REQUIRE(::write(event, &one, sizeof one) == sizeof one);
  const ProcessFacts signalled = inspect_process(child->id());
  CHECK(signalled.event_counters == std::vector<uint64_t>{1});
  CHECK_FALSE(sleeps_for_ever(signalled));
  ::close(event);
}
#endif

TEST_CASE("Process: a wait that ends by itself is no hang", "[cmd]") {
  SignalWait signals;
  auto child = ChildProcess::start([] {
    const timespec minute{60, 0};
    return poll_on(-1, &minute);
  });
  REQUIRE(child);
  CHECK(becomes(child->id(), signals, [](const ProcessFacts& facts) {
    return !facts.threads.empty() && facts.threads[0].system_call &&
           describe_system_call(*facts.threads[0].system_call) == "ppoll, with timeout";
  }));
  CHECK_FALSE(sleeps_for_ever(inspect_process(child->id())));
  CHECK(sleeps_for_a_while(inspect_process(child->id())));
  // Now nobody will wake it but who continues it.
  REQUIRE(::kill(child->id(), SIGSTOP) == 0);
  CHECK(becomes(child->id(), signals, [](const ProcessFacts& facts) {
    return !facts.threads.empty() && facts.threads[0].state == 'T';
  }));
  CHECK_FALSE(sleeps_for_a_while(inspect_process(child->id())));
}

TEST_CASE("Process: one that is gone sleeps not", "[cmd]") {
  CHECK_FALSE(sleeps_for_ever(inspect_process(-1)));
}

TEST_CASE("ChildProcess: what it returns is its exit status", "[cmd]") {
  SignalWait signals;
  auto child = ChildProcess::start([] { return 7; });
  REQUIRE(child);
  while (!child->ended()) signals.wait_ns(1000 * kMsNs);
  CHECK(*child->ended() == 7 << 8);
}

TEST_CASE("ChildProcess: output of a program, and of none", "[cmd]") {
  SignalWait signals;
  constexpr int64_t kLimitNs = 60'000 * kMsNs;
  CHECK(output_of({"echo", "one", "two"}, signals, kLimitNs) == "one two\n");
  CHECK(output_of({"no-such-program-anywhere"}, signals, kLimitNs) == std::nullopt);
  CHECK(output_of({"sleep", "60"}, signals, 10 * kMsNs) == std::nullopt);
}

}  // namespace imgconv
