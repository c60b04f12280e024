#include "loop/history/handoff.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

#include "loop/history/random.h"
#include "loop/history/requests.h"
#include "loop/history/spin.h"

namespace imgconv::history {
namespace {

class Handoff {
 public:
  Handoff(const HandoffOptions& options, LoopProtocol& protocol)
      : options_(options),
        protocol_(protocol),
        pinning_(options.pinning ? options.pinning : any_two_processors()),
        num_jobs_(std::clamp(options.jobs_per_round, 1U, HandoffOptions::kMaxJobs)) {}

  Result<HandoffReport> run() {
    std::thread worker([this] { run_worker(); });
    Result<void> pinned = pinning_ ? pin_thread(worker.native_handle(), pinning_->pool_cpu) : ok();
    if (pinned) {
      std::thread loop([this] { run_loop(); });
      if (pinning_) pinned = pin_thread(loop.native_handle(), pinning_->loop_cpu);
      if (!pinned) is_cancelled_.store(true, std::memory_order_relaxed);
      loop.join();
    }
    requested_round_.store(kStop, std::memory_order_release);
    worker.join();
    if (!pinned) return pinned.error();
    return report_;
  }

 private:
  static constexpr uint64_t kStop = ~uint64_t{0};
  static constexpr unsigned kDelayScales = 8;

  void run_worker() {
    Random random(options_.seed, 1);
    for (uint64_t round = 1;; ++round) {
      Spin spin;
      uint64_t wanted = 0;
      while ((wanted = requested_round_.load(std::memory_order_acquire)) < round) spin.turn();
      if (wanted == kStop) return;
      for (unsigned i = 0; i < num_jobs_; ++i) {
        delay(random);
        if (protocol_.post(jobs_[i])) signalled_.store(true, std::memory_order_release);
      }
      finished_round_.store(round, std::memory_order_release);
    }
  }

  void run_loop() {
    const auto start = std::chrono::steady_clock::now();
    const std::chrono::duration<double> limit(options_.max_seconds);
    Random random(options_.seed, 0);
    while (!is_cancelled_.load(std::memory_order_relaxed) && report_.rounds < options_.max_rounds &&
           (options_.max_lost == 0 || report_.lost < options_.max_lost)) {
      // The clock is slower than a round.
      constexpr uint64_t kRoundsPerLook = 64;
      if (report_.rounds % kRoundsPerLook == 0 &&
          std::chrono::steady_clock::now() - start > limit) {
        break;
      }
      run_round(++report_.rounds, random);
    }
    report_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  void run_round(uint64_t round, Random& random) {
    requested_round_.store(round, std::memory_order_release);
    for (unsigned left = num_jobs_; left > 0;) {
      delay(random);
      bool was_signalled = false;
      if (protocol_.prepare()) {
        ++report_.sleeps;
        was_signalled = sleep(round);
        ++(was_signalled ? report_.wake_ups : report_.lost);
        if (!was_signalled) {
          report_.rescued += left;
          left -= length_of(protocol_.rescue());
        }
      } else if (signalled_.load(std::memory_order_acquire)) {
        was_signalled = signalled_.exchange(false, std::memory_order_acq_rel);
      }
      protocol_.check(was_signalled);
      if (left == 0) break;
      left -= length_of(protocol_.dispatch());
    }
    // A signal that came late is not the next round's.
    Spin spin;
    while (finished_round_.load(std::memory_order_acquire) < round) spin.turn();
    signalled_.store(false, std::memory_order_relaxed);
  }

  /// False: the wake-up is lost.
  bool sleep(uint64_t round) {
    Spin spin;
    for (;;) {
      if (signalled_.load(std::memory_order_acquire)) {
        // As reading the eventfd: what is posted after this sets it again.
        signalled_.exchange(false, std::memory_order_acq_rel);
        return true;
      }
      // Signals come before the end of the round, so the flag is looked at once more.
      if (finished_round_.load(std::memory_order_acquire) == round &&
          !signalled_.load(std::memory_order_acquire)) {
        return false;
      }
      spin.turn();
    }
  }

  void delay(Random& random) { spin_steps(random.below(options_.max_delay)); }

  const HandoffOptions& options_;
  LoopProtocol& protocol_;
  const std::optional<Pinning> pinning_;
  const unsigned num_jobs_;
  std::array<NoJob, HandoffOptions::kMaxJobs> jobs_;

  // Written by the loop, and by the worker.
  alignas(64) std::atomic<uint64_t> requested_round_{0};
  alignas(64) std::atomic<uint64_t> finished_round_{0};
  // The eventfd: set by the worker, cleared by the loop.
  alignas(64) std::atomic<bool> signalled_{false};

  // Set by the thread that called run().
  alignas(64) std::atomic<bool> is_cancelled_{false};
  // The loop's until it is joined.
  HandoffReport report_;
};

}  // namespace

Result<HandoffReport> run_handoff(const HandoffOptions& options) {
  const auto protocol =
      make_loop_protocol(options.protocol, options.memory, options.seed, options.cold_stores);
  if (protocol == nullptr) {
    return Error(EINVAL, fmt::format("Unknown protocol '{}'", options.protocol));
  }
  return Handoff(options, *protocol).run();
}

}  // namespace imgconv::history
