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

/// Why a convert was stopped.
enum class HangVerdict : uint8_t {
  /// All its threads sleep without a limit, nothing is signalled: only somebody outside could wake
  /// it.
  kProved,
  /// The system hides what threads wait for. The loop has polled over completed requests for as
  /// long as the time limit, which is what a lost wake-up looks like.
  kLikely,
  /// No progress within the time limit, and neither of the above.
  kTimeLimit,
};

struct Evidence {
  int64_t taken_ns = 0;
  history::LoopFigures figures;
  /// Nothing if the child did not answer.
  std::optional<history::StateCopy> state;
  ProcessFacts process;
  /// The main thread of the child is its loop.
  pid_t loop_thread = 0;
  HangVerdict verdict = HangVerdict::kTimeLimit;
  /// "thread apply all bt"; empty without gdb.
  std::string backtrace;
};

Evidence gather_evidence(const ChildProcess& child, const history::TracePage& page,
                         HangVerdict verdict);

void add_backtrace(Evidence& evidence, SignalWait& signals);

/// Several lines, indented under the line of the iteration.
std::string evidence_text(const Evidence& evidence);
InfoValue evidence_json(const Evidence& evidence);

/// How far the convert had come.
double percent_done(const history::LoopFigures& figures);

}  // namespace imgconv
