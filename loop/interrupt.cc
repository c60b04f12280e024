#include "loop/interrupt.h"

#include <array>
#include <atomic>
#include <csignal>

namespace imgconv {
namespace {

constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};

// The signal that came, or 0. Flag only: nothing is published by it.
std::atomic<int> pending_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "set in a signal handler");

std::array<struct sigaction, kSignals.size()> previous;

void remember(int signal) { pending_signal.store(signal, std::memory_order_relaxed); }

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

}  // namespace imgconv
