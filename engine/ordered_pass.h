// OrderedPass: one pass over a disk by several workers: windows are claimed in guest order,
// prepared (read, compared) at the same time, and written one after the other in guest order, so
// that the layout of what is written does not depend on timing.
//
// `Steps` is what a command does in a pass:
//   struct Window;                                       one worker's buffers, reused
//   Task<Result<bool>> claim(Window&);                   the next window; false at the end
//   Task<Result<void>> prepare(Window&);                 any order, several at a time
//   Task<Result<void>> write(Window&);                   guest order, one at a time
// The first error ends the pass; what is under way is awaited. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "engine/turnstile.h"
#include "loop/co_mutex.h"
#include "loop/result.h"
#include "loop/task.h"
#include "loop/task_group.h"
#include "loop/try.h"

namespace imgconv {

template <class Steps>
class OrderedPass {
 public:
  /// `steps` must outlive the pass.
  explicit OrderedPass(Steps& steps) : steps_(steps) {}

  Task<Result<void>> run(unsigned workers) {
    TaskGroup group;
    for (unsigned i = 0; i < workers; ++i) group.spawn(work());
    CO_RETURN_IF_ERROR(co_await group.join());
    if (first_error_) co_return *first_error_;
    co_return ok();
  }

 private:
  Task<void> work() {
    typename Steps::Window window;
    bool is_last = false;
    while (!is_last && !first_error_) {
      const Result<bool> done = co_await do_one(window);
      if (!done) fail(done.error());
      is_last = !done || !*done;
    }
  }

  /// False: there was no window left.
  Task<Result<bool>> do_one(typename Steps::Window& window) {
    CoMutex::Guard claim = co_await claim_lock_.lock();
    if (first_error_) co_return false;
    CO_ASSIGN_OR_RETURN(const bool has_window, co_await steps_.claim(window));
    if (!has_window) co_return false;
    const uint64_t ticket = next_ticket_++;
    claim.unlock();
    CO_RETURN_IF_ERROR(co_await steps_.prepare(window));
    const bool may_go_on = co_await turnstile_.enter(ticket);
    if (!may_go_on) co_return false;
    CO_RETURN_IF_ERROR(co_await steps_.write(window));
    turnstile_.pass();
    co_return true;
  }

  void fail(const Error& error) {
    if (first_error_) return;
    first_error_ = error;
    turnstile_.stop();
  }

  Steps& steps_;
  /// Guards what claim() walks with, while it waits for metadata.
  CoMutex claim_lock_;
  Turnstile turnstile_;
  uint64_t next_ticket_ = 0;
  std::optional<Error> first_error_;
};

}  // namespace imgconv
