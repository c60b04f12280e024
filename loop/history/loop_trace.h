// LoopTrace: what a loop and its workers did last, in a page that a parent process reads while its
// child runs or hangs. TracedProtocol: a LoopProtocol that notes what another one is asked.
//
// Written without read-modify-writes and fences, which would drain the store buffers that the
// protocol under test depends on. So the figures order nothing, and a reader may see a moment that
// never was; those of a process whose threads all sleep are exact.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "loop/history/loop_protocol.h"
#include "loop/history/state_mailbox.h"
#include "loop/result.h"

namespace imgconv::history {

enum class LoopPhase : uint32_t { kNotStarted, kPrepare, kPoll, kCheck, kDispatch };

/// Times are CLOCK_MONOTONIC, 0 when it never happened.
struct LoopFigures {
  LoopPhase phase = LoopPhase::kNotStarted;
  int64_t prepare_ns = 0;
  int64_t poll_ns = 0;
  int64_t check_ns = 0;
  int64_t dispatch_ns = 0;
  /// The last completion that any worker posted.
  int64_t schedule_ns = 0;
  uint64_t rounds = 0;
  /// How often the protocol let the loop sleep, and how often it was woken by a signal.
  uint64_t sleeps = 0;
  uint64_t wakeups = 0;
  uint64_t jobs_posted = 0;
  uint64_t jobs_dispatched = 0;
  /// What the copy itself says.
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

class LoopTrace {
 public:
  LoopTrace() = default;
  LoopTrace(const LoopTrace&) = delete;
  LoopTrace& operator=(const LoopTrace&) = delete;

  /// Any thread of any process that shares the page.
  LoopFigures read() const;

  // Loop thread of the traced process.
  void enter(LoopPhase phase);
  void count_sleep() { count(sleeps_); }
  void count_wakeup() { count(wakeups_); }
  void count_dispatched(uint64_t jobs) { count(jobs_dispatched_, jobs); }
  void set_progress(uint64_t done, uint64_t total);
  /// Any worker thread, after it posted.
  void count_posted();

 private:
  using Counter = std::atomic<uint64_t>;
  /// More threads than the pool can have (--threads).
  static constexpr size_t kMaxWorkers = 64;
  static constexpr size_t kCacheLine = 64;

  /// One writer each; relaxed, and no read-modify-write, see above.
  static void count(Counter& counter, uint64_t by = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  struct alignas(kCacheLine) Worker {
    Counter jobs_posted{0};
    std::atomic<int64_t> schedule_ns{0};
  };

  std::atomic<LoopPhase> phase_{LoopPhase::kNotStarted};
  /// By LoopPhase.
  std::array<std::atomic<int64_t>, 5> entered_ns_{};
  Counter rounds_{0};
  Counter sleeps_{0};
  Counter wakeups_{0};
  Counter jobs_dispatched_{0};
  Counter bytes_done_{0};
  Counter bytes_total_{0};
  std::array<Worker, kMaxWorkers> workers_;
};

/// What a child made by fork() shows to its parent, in memory that both share.
class TracePage {
 public:
  static Result<TracePage> create();

  LoopTrace& trace() const { return page_->trace; }
  StateMailbox& mailbox() const { return page_->mailbox; }

 private:
  struct Page {
    LoopTrace trace;
    StateMailbox mailbox;
  };
  struct Unmap {
    void operator()(Page* page) const;
  };
  explicit TracePage(Page* page) : page_(page) {}

  std::unique_ptr<Page, Unmap> page_;
};

class TracedProtocol final : public LoopProtocol {
 public:
  /// Both must outlive this object. Worker threads pin themselves when they first post, which
  /// check_pinning() has tried; the loop thread is the caller's to pin.
  TracedProtocol(LoopProtocol& inner, LoopTrace& trace, std::optional<unsigned> pool_cpu)
      : inner_(inner), trace_(trace), pool_cpu_(pool_cpu) {}

  bool post(Job& job) override;
  bool prepare() override;
  void check(bool was_signalled) override;
  Job* dispatch() override;
  ProtocolState state() const override { return inner_.state(); }
  Job* rescue() override { return inner_.rescue(); }

 private:
  LoopProtocol& inner_;
  LoopTrace& trace_;
  const std::optional<unsigned> pool_cpu_;
};

}  // namespace imgconv::history
