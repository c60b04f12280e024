// BhFlag: a bottom half that is a flag, bh->scheduled, and a request's state that its callback
// reads. The races between "schedule it again" and "it runs", before April 2015 (V2) and around the
// completion bottom half's cancel (V10). Who schedules always writes the eventfd; how to avoid that
// is the subject of notify_me.h.
#pragma once

#include <cstdint>

#include "loop/history/history_sync.h"
#include "loop/history/requests.h"

namespace imgconv::history {

/// How the worker finds the bottom half scheduled already.
enum class BhSchedule : uint8_t { kLoadThenStore, kExchange };
/// How the loop turns the flag off before the callback looks.
enum class BhClear : uint8_t { kStoreThenReadFence, kStore, kExchange };

struct BhFlagOptions {
  BhSchedule schedule = BhSchedule::kExchange;
  BhClear clear = BhClear::kExchange;
  /// The callback schedules its own bottom half before it completes a request, cancels that when it
  /// found no more, and looks once again (thread_pool_completion_bh). `clear` is how it cancels.
  bool reschedules_itself = false;
};

template <class Sync, BhFlagOptions kOptions>
class BhFlag : public OnRequests<Sync> {
  using typename OnRequests<Sync>::Request;
  using typename OnRequests<Sync>::Word;
  using OnRequests<Sync>::requests_;

 public:
  bool post(Job& job) { return schedule(requests_.add(job)); }

  /// True: write the eventfd.
  bool schedule(Request& request) {
    request.done.store(request.serial(), std::memory_order_relaxed);
    if constexpr (kOptions.schedule == BhSchedule::kExchange) {
      return scheduled_.exchange(1, std::memory_order_seq_cst) == 0;
    }
    if (scheduled_.load(std::memory_order_relaxed) != 0) return false;
    Sync::fence(std::memory_order_release);
    scheduled_.store(1, std::memory_order_relaxed);
    return true;
  }

  bool prepare() { return scheduled_.load(std::memory_order_relaxed) == 0; }
  void check(bool /*was_signalled*/) {}

  Job* dispatch() {
    if constexpr (!kOptions.reschedules_itself) {
      return scheduled_.load(std::memory_order_relaxed) == 0 ? nullptr : clear_and_look();
    }
    JobList completed;
    if (scheduled_.exchange(0, std::memory_order_seq_cst) == 0) return nullptr;
    Job* done = requests_.take_done();
    while (done != nullptr) {
      scheduled_.exchange(1, std::memory_order_seq_cst);
      // Here the request's callback runs, and may poll.
      completed.append(done);
      done = clear_and_look();
    }
    return completed.head();
  }

  // The case file's program: the flag is set, by an earlier schedule, and the loop has seen that.
  void before_program() {
    scheduled_.store(1, std::memory_order_relaxed);
    this->add_request_of_program();
  }
  void loop_side() { (void)clear_and_look(); }
  void worker_side() { (void)schedule(*this->request_of_program_); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("scheduled", scheduled_.load(std::memory_order_relaxed));
  }

 private:
  Job* clear_and_look() {
    if constexpr (kOptions.clear == BhClear::kExchange) {
      // In a cancel what was there does not matter; in a dispatch it is 1, as only the loop clears.
      (void)scheduled_.exchange(0, std::memory_order_seq_cst);
    } else {
      scheduled_.store(0, std::memory_order_relaxed);
    }
    if constexpr (kOptions.clear == BhClear::kStoreThenReadFence) {
      Sync::fence(std::memory_order_acquire);
    }
    return requests_.take_done();
  }

  alignas(64) Word scheduled_{0};
};

}  // namespace imgconv::history
