#include "loop/aio_context.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "loop/history/loop_protocol.h"

namespace imgconv {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

// The sleep is no longer than this while an idle bottom half waits.
constexpr int64_t kIdleLimitNs = 10'000'000;

// While work is at hand the loop looks at its sources' descriptors only every so many rounds; a
// system call per round would double the cost of a small job. Sources that know without a system
// call (the ring) are served in each round all the same.
constexpr unsigned kMaxRoundsWithoutPoll = 16;

}  // namespace

AioContext::AioContext(history::LoopProtocol* protocol)
    : thread_(std::this_thread::get_id()), protocol_(protocol), notify_([](void*) {}, nullptr) {}

AioContext::~AioContext() {
  assert(sources_.empty());
  assert(ready_jobs_ == nullptr && inbox_.is_empty());
  bottom_halves_.forget(notify_);
}

bool AioContext::run_once() {
  while (!run_round(/*may_sleep=*/true)) {
  }
  return true;
}

bool AioContext::poll_once() { return run_round(/*may_sleep=*/false); }

bool AioContext::run_round(bool may_sleep) {
  assert(is_loop_thread());
  ++statistics_.rounds;
  const std::optional<int64_t> timeout_ns = prepare(may_sleep);
  const bool can_skip_poll =
      timeout_ns == 0 && may_sleep && rounds_without_poll_ < kMaxRoundsWithoutPoll;
  if (can_skip_poll) {
    ++rounds_without_poll_;
  } else {
    poll(timeout_ns);
    rounds_without_poll_ = 0;
  }
  check();
  return dispatch();
}

std::optional<int64_t> AioContext::prepare(bool may_sleep) {
  for (size_t i = 0; i < sources_.size(); ++i) sources_[i].source->prepare();
  // In every round, since its check() follows in every round.
  const bool protocol_allows = protocol_ == nullptr || protocol_->prepare();
  if (!may_sleep || !protocol_allows) return 0;
  if (!gate_.try_arm([this] { return has_work(); })) return 0;

  std::optional<int64_t> timeout_ns;
  if (const std::optional<int64_t> deadline_ns = timers_.next_deadline_ns()) {
    timeout_ns = std::max<int64_t>(*deadline_ns - steady_clock_ns(), 0);
  }
  if (bottom_halves_.has_idle()) {
    timeout_ns = std::min(timeout_ns.value_or(kIdleLimitNs), kIdleLimitNs);
  }
  return timeout_ns;
}

bool AioContext::has_work() {
  if (ready_jobs_ != nullptr || !inbox_.is_empty() || bottom_halves_.has_due()) return true;
  return std::any_of(sources_.begin(), sources_.end(), [](const Registration& registration) {
    return registration.source->has_ready();
  });
}

void AioContext::poll(std::optional<int64_t> timeout_ns) {
  ++statistics_.polls;
  poll_descriptors_.clear();
  poll_descriptors_.push_back({notifier_.descriptor(), POLLIN, 0});
  for (const Registration& registration : sources_) {
    poll_descriptors_.push_back({registration.source->descriptor(), POLLIN, 0});
  }
  timespec timeout{};
  if (timeout_ns) {
    timeout.tv_sec = *timeout_ns / kNsPerSecond;
    timeout.tv_nsec = *timeout_ns % kNsPerSecond;
  }
  // A signal ends the sleep like a timeout: nothing is readable then.
  const int count = ::ppoll(poll_descriptors_.data(), poll_descriptors_.size(),
                            timeout_ns ? &timeout : nullptr, nullptr);
  if (count <= 0) return;
  was_signalled_ = poll_descriptors_[0].revents != 0;
  for (size_t i = 0; i < sources_.size(); ++i) {
    if (poll_descriptors_[i + 1].revents != 0) sources_[i].is_readable = true;
  }
}

void AioContext::check() {
  gate_.disarm();
  const bool was_signalled = std::exchange(was_signalled_, false);
  // Before the inboxes are emptied: a signal that comes later stays for the next round.
  if (was_signalled) statistics_.signals_received += notifier_.clear();
  if (protocol_ != nullptr) {
    protocol_->check(was_signalled);
  } else if (!inbox_.is_empty()) {
    accept(inbox_.drain());
  }
}

void AioContext::accept(Job* jobs) {
  if (jobs == nullptr) return;
  (ready_jobs_ == nullptr ? ready_jobs_ : last_ready_job_->next) = jobs;
  last_ready_job_ = jobs;
  while (last_ready_job_->next != nullptr) last_ready_job_ = last_ready_job_->next;
}

bool AioContext::dispatch() {
  if (protocol_ != nullptr) accept(protocol_->dispatch());
  bool progress = bottom_halves_.dispatch();
  progress |= dispatch_jobs();
  progress |= dispatch_sources();
  if (timers_.next_deadline_ns()) progress |= timers_.dispatch(steady_clock_ns());
  return progress;
}

bool AioContext::dispatch_jobs() {
  bool progress = false;
  // Not endless: jobs that finish meanwhile stay in the inbox until the next check().
  while (ready_jobs_ != nullptr) {
    // complete() may free the job or submit it again.
    Job* const job = std::exchange(ready_jobs_, ready_jobs_->next);
    job->complete();
    progress = true;
  }
  return progress;
}

bool AioContext::dispatch_sources() {
  bool progress = false;
  // By index: a callback may add or remove sources and run nested rounds. One that moves to the
  // place of a removed one is served in the next round.
  for (size_t i = 0; i < sources_.size(); ++i) {
    const bool is_readable = std::exchange(sources_[i].is_readable, false);
    progress |= sources_[i].source->dispatch(is_readable);
  }
  return progress;
}

void AioContext::wake_if_asleep() {
  if (gate_.kick()) notifier_.set();
}

void AioContext::post(Job& job) {
  if (protocol_ != nullptr) {
    if (protocol_->post(job)) notifier_.set();
    return;
  }
  // Who finds the inbox empty kicks for all that follow until it is drained.
  if (inbox_.push(job)) wake_if_asleep();
}

void AioContext::schedule(BottomHalf& bottom_half) {
  if (bottom_halves_.schedule(bottom_half)) wake_if_asleep();
}

void AioContext::schedule_idle(BottomHalf& bottom_half) {
  if (bottom_halves_.schedule_idle(bottom_half)) wake_if_asleep();
}

void AioContext::schedule_oneshot(BottomHalf::Callback callback, void* opaque) {
  if (bottom_halves_.schedule_oneshot(callback, opaque)) wake_if_asleep();
}

void AioContext::resume(std::coroutine_handle<> coroutine) {
  schedule_oneshot([](void* address) { std::coroutine_handle<>::from_address(address).resume(); },
                   coroutine.address());
}

void AioContext::notify() { schedule(notify_); }

void AioContext::add_source(EventSource& source) { sources_.push_back({&source, false}); }

void AioContext::remove_source(EventSource& source) {
  const auto it = std::find_if(sources_.begin(), sources_.end(),
                               [&source](const Registration& r) { return r.source == &source; });
  assert(it != sources_.end());
  sources_.erase(it);
}

}  // namespace imgconv
