// Current: the protocol that ships. It adds nothing to BasicWakeGate and BasicInbox but the shape
// of loop_protocol.h: the same calls in the same order as in loop/aio_context.cc.
#pragma once

#include "loop/executor.h"
#include "loop/history/history_sync.h"
#include "loop/history/requests.h"
#include "loop/inbox.h"
#include "loop/wake_gate.h"

namespace imgconv::history {

template <class Sync>
class Current {
 public:
  bool post(Job& job) { return inbox_.push(job) && gate_.kick(); }
  bool prepare() {
    return gate_.try_arm([this] { return !inbox_.is_empty(); });
  }
  void check(bool /*was_signalled*/) { gate_.disarm(); }
  Job* dispatch() { return inbox_.is_empty() ? nullptr : inbox_.drain(); }

  // The case file's program.
  void before_program() {}
  void loop_side() { (void)prepare(); }
  void worker_side() { (void)post(job_of_program_); }

  template <class Visitor>
  void visit_words(Visitor visitor) const {
    visitor("armed", gate_.is_armed() ? 1 : 0);
  }
  bool has_undelivered() const { return !inbox_.is_empty(); }
  Job* rescue() { return inbox_.drain(); }

 private:
  BasicWakeGate<Sync> gate_;
  BasicInbox<Job, Sync> inbox_;
  NoJob job_of_program_;
};

}  // namespace imgconv::history
