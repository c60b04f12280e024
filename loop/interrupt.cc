#include "loop/interrupt.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <ctime>

#include "loop/timer.h"

namespace imgconv {
namespace {

constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};

// The signal that came, or 0, and the futex of those who pause. Nothing is published by it.
std::atomic<int> pending_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "set in a signal handler");
static_assert(sizeof(std::atomic<int>) == sizeof(int), "the futex word is the atomic");

std::array<struct sigaction, kSignals.size()> previous;

void remember(int signal) {
  const int interrupted_errno = errno;
  pending_signal.store(signal, std::memory_order_relaxed);
  ::syscall(SYS_futex, &pending_signal, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  errno = interrupted_errno;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  pending_signal.store(0, std::memory_order_relaxed);
  struct sigaction action {};
  action.sa_handler = remember;
  // The second signal finds the default, which kills.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &previous[i]);
    // A signal that the caller has ignored (nohup) stays ignored.
    if (previous[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous[i], nullptr);
  const int signal = pending_signal.load(std::memory_order_relaxed);
  if (signal != 0) std::raise(signal);
}

bool InterruptGuard::is_pending() { return pending_signal.load(std::memory_order_relaxed) != 0; }

void InterruptGuard::pause_ns(int64_t duration_ns) {
  constexpr int64_t kNsPerSecond = 1'000'000'000;
  const int64_t deadline_ns = steady_clock_ns() + duration_ns;
  while (!is_pending()) {
    const int64_t left_ns = deadline_ns - steady_clock_ns();
    if (left_ns <= 0) return;
    const timespec limit{left_ns / kNsPerSecond, left_ns % kNsPerSecond};
    ::syscall(SYS_futex, &pending_signal, FUTEX_WAIT_PRIVATE, 0, &limit, nullptr, 0);
  }
}

}  // namespace imgconv
