#include "cmd/reproduce_iteration.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "engine/messages.h"
#include "loop/runtime.h"
#include "loop/timer.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;

/// Progress goes to the trace. Warnings would come in every iteration and are left out.
class TraceMessages final : public Messages {
 public:
  TraceMessages(const Report& report, history::LoopTrace& trace) : report_(report), trace_(trace) {}
  void warning(const std::string& /*text*/) override {}
  void error(const std::string& text) override { report_.error(text); }
  void raw_line(const std::string& /*text*/) override {}
  void progress(uint64_t done, uint64_t total) override { trace_.set_progress(done, total); }

 private:
  const Report& report_;
  history::LoopTrace& trace_;
};

/// In the child. The exit code.
int convert_under_protocol(const Report& report, const IterationSetup& setup, uint64_t seed,
                           const history::TracePage& page) {
  if (setup.pinning) {
    const Result<void> pinned = history::pin_thread(pthread_self(), setup.pinning->loop_cpu);
    if (!pinned) {
      report.error(pinned.error());
      return 1;
    }
  }
  const std::unique_ptr<history::LoopProtocol> protocol =
      history::make_loop_protocol(setup.protocol, setup.memory, seed, setup.cold_stores);
  std::optional<unsigned> pool_cpu;
  if (setup.pinning) pool_cpu = setup.pinning->pool_cpu;
  history::TracedProtocol traced(*protocol, page.trace(), pool_cpu);
  const history::StateObserver observer(page.mailbox(), *protocol);

  RuntimeOptions options;
  options.pool_threads = setup.pool_threads;
  // A ring would wake the loop by its own descriptor.
  options.backend = IoBackendKind::kPool;
  options.protocol = &traced;
  Runtime runtime(options);
  TraceMessages messages(report, page.trace());
  const Result<ConvertSummary> summary =
      runtime.run(convert(runtime.storage(), setup.convert, messages));
  if (summary) return 0;
  report.error(summary.error());
  return 1;
}

bool is_same_moment(const history::LoopFigures& a, const history::LoopFigures& b) {
  return a.phase == b.phase && a.rounds == b.rounds && a.jobs_posted == b.jobs_posted &&
         a.jobs_dispatched == b.jobs_dispatched && a.bytes_done == b.bytes_done;
}

/// Decides from one look to the next whether a convert hangs.
class Watchdog {
 public:
  Watchdog(pid_t process, const history::LoopTrace& trace, int64_t timeout_ns)
      : process_(process),
        trace_(trace),
        timeout_ns_(timeout_ns),
        progressed_ns_(steady_clock_ns()) {}

  /// Nothing while there is no reason to stop it.
  std::optional<HangVerdict> look() {
    const history::LoopFigures now = trace_.read();
    const int64_t now_ns = steady_clock_ns();
    if (!is_same_moment(now, last_)) {
      last_ = now;
      progressed_ns_ = now_ns;
      looks_asleep_ = 0;
      return std::nullopt;
    }
    const ProcessFacts process = inspect_process(process_);
    looks_asleep_ = sleeps_for_ever(process) ? looks_asleep_ + 1 : 0;
    // Threads are looked at one after the other. Nothing moved since the former look, when all
    // slept as well.
    if (looks_asleep_ >= 2) return HangVerdict::kProved;
    // A convert that keeps to a rate may pause for longer than the time limit.
    if (sleeps_for_a_while(process)) progressed_ns_ = now_ns;
    if (now_ns - progressed_ns_ < timeout_ns_) return std::nullopt;
    const bool polls_over_work =
        now.phase == history::LoopPhase::kPoll && now.jobs_posted > now.jobs_dispatched;
    return is_hidden(process) && polls_over_work ? HangVerdict::kLikely : HangVerdict::kTimeLimit;
  }

 private:
  const pid_t process_;
  const history::LoopTrace& trace_;
  const int64_t timeout_ns_;
  int64_t progressed_ns_;
  history::LoopFigures last_;
  int looks_asleep_ = 0;
};

}  // namespace

Result<IterationResult> run_iteration(const Report& report, const IterationSetup& setup,
                                      uint64_t seed, bool wants_backtrace, SignalWait& signals) {
  constexpr int64_t kLookEveryNs = 10 * kNsPerMs;
  ASSIGN_OR_RETURN(const history::TracePage page, history::TracePage::create());
  const int64_t started_ns = steady_clock_ns();
  ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start([&] {
                     return convert_under_protocol(report, setup, seed, page);
                   }));
  Watchdog watchdog(child.id(), page.trace(), setup.timeout_ns);
  IterationResult result;
  for (;;) {
    signals.wait_ns(kLookEveryNs);
    if (const std::optional<int> status = child.ended()) {
      if (*status != 0) return Error(EIO, "the convert of this iteration failed");
      break;
    }
    if (signals.interruption()) {
      result.end = IterationEnd::kInterrupted;
      break;
    }
    const std::optional<HangVerdict> verdict = watchdog.look();
    if (!verdict) continue;
    result.end = *verdict == HangVerdict::kTimeLimit ? IterationEnd::kGivenUp : IterationEnd::kHung;
    result.elapsed_ns = steady_clock_ns() - started_ns;
    result.evidence = gather_evidence(child, page, *verdict);
    if (wants_backtrace) add_backtrace(*result.evidence, signals);
    break;
  }
  if (!result.evidence) result.elapsed_ns = steady_clock_ns() - started_ns;
  result.figures = page.trace().read();
  return result;
}

}  // namespace imgconv
