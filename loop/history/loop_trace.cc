#include "loop/history/loop_trace.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "loop/history/pinning.h"
#include "loop/history/requests.h"
#include "loop/timer.h"

namespace imgconv::history {
namespace {

/// Which of a trace's workers the calling thread is. Threads beyond them share places, at the cost
/// of lost counts.
size_t worker_index(size_t workers) {
  static std::atomic<size_t> threads{0};
  thread_local const size_t index = threads.fetch_add(1, std::memory_order_relaxed);
  return index % workers;
}

}  // namespace

LoopFigures LoopTrace::read() const {
  const auto time_of = [this](LoopPhase phase) {
    return entered_ns_[static_cast<size_t>(phase)].load(std::memory_order_relaxed);
  };
  LoopFigures figures;
  figures.phase = phase_.load(std::memory_order_relaxed);
  figures.prepare_ns = time_of(LoopPhase::kPrepare);
  figures.poll_ns = time_of(LoopPhase::kPoll);
  figures.check_ns = time_of(LoopPhase::kCheck);
  figures.dispatch_ns = time_of(LoopPhase::kDispatch);
  figures.rounds = rounds_.load(std::memory_order_relaxed);
  figures.sleeps = sleeps_.load(std::memory_order_relaxed);
  figures.wakeups = wakeups_.load(std::memory_order_relaxed);
  figures.jobs_dispatched = jobs_dispatched_.load(std::memory_order_relaxed);
  figures.bytes_done = bytes_done_.load(std::memory_order_relaxed);
  figures.bytes_total = bytes_total_.load(std::memory_order_relaxed);
  for (const Worker& worker : workers_) {
    figures.jobs_posted += worker.jobs_posted.load(std::memory_order_relaxed);
    figures.schedule_ns =
        std::max(figures.schedule_ns, worker.schedule_ns.load(std::memory_order_relaxed));
  }
  return figures;
}

void LoopTrace::enter(LoopPhase phase) {
  if (phase == LoopPhase::kPrepare) count(rounds_);
  entered_ns_[static_cast<size_t>(phase)].store(steady_clock_ns(), std::memory_order_relaxed);
  phase_.store(phase, std::memory_order_relaxed);
}

void LoopTrace::set_progress(uint64_t done, uint64_t total) {
  bytes_done_.store(done, std::memory_order_relaxed);
  bytes_total_.store(total, std::memory_order_relaxed);
}

void LoopTrace::count_posted() {
  Worker& worker = workers_[worker_index(kMaxWorkers)];
  count(worker.jobs_posted);
  worker.schedule_ns.store(steady_clock_ns(), std::memory_order_relaxed);
}

Result<TracePage> TracePage::create() {
  void* const memory =
      ::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno(errno, "cannot share memory");
  return TracePage(new (memory) Page);
}

void TracePage::Unmap::operator()(Page* page) const {
  page->~Page();
  ::munmap(page, sizeof(Page));
}

bool TracedProtocol::post(Job& job) {
  thread_local bool is_pinned = false;
  if (pool_cpu_ && !is_pinned) is_pinned = pin_thread(pthread_self(), *pool_cpu_).has_value();
  const bool must_signal = inner_.post(job);
  // Afterwards: nothing may come between the end of the work and the protocol.
  trace_.count_posted();
  return must_signal;
}

bool TracedProtocol::prepare() {
  trace_.enter(LoopPhase::kPrepare);
  const bool may_sleep = inner_.prepare();
  if (may_sleep) {
    trace_.count_sleep();
    trace_.enter(LoopPhase::kPoll);
  }
  return may_sleep;
}

void TracedProtocol::check(bool was_signalled) {
  trace_.enter(LoopPhase::kCheck);
  if (was_signalled) trace_.count_wakeup();
  inner_.check(was_signalled);
}

Job* TracedProtocol::dispatch() {
  trace_.enter(LoopPhase::kDispatch);
  Job* const jobs = inner_.dispatch();
  trace_.count_dispatched(length_of(jobs));
  return jobs;
}

}  // namespace imgconv::history
