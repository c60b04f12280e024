// Evidence: what can be known about a convert that hangs, gathered before it is killed. Gathering
// reads and disturbs nothing but by gdb, which comes last. Main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cmd/child_process.h"
#include "cmd/process_inspection.h"
#include "formats/info_value.h"
#include "loop/history/loop_trace.h"

namespace imgconv {

struct Evidence {
  int64_t taken_ns = 0;
  history::LoopFigures figures;
  /// Nothing if the child did not answer.
  std::optional<history::StateCopy> state;
  ProcessFacts process;
  /// The main thread of the child is its loop.
  pid_t loop_thread = 0;
  /// Nobody but a signal from outside could go on. Otherwise the verdict comes from the time limit.
  bool is_proved = false;
  /// "thread apply all bt"; empty without gdb.
  std::string backtrace;
};

Evidence gather_evidence(const ChildProcess& child, const history::TracePage& page, bool is_proved);

void add_backtrace(Evidence& evidence, SignalWait& signals);

/// Several lines, indented under the line of the iteration.
std::string evidence_text(const Evidence& evidence);
InfoValue evidence_json(const Evidence& evidence);

/// How far the convert had come.
double percent_done(const history::LoopFigures& figures);

}  // namespace imgconv
