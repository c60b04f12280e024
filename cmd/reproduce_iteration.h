// One iteration of `reproduce`: a convert in a child process whose loop uses a protocol of the case
// file, watched until it ends or hangs. Main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cmd/child_process.h"
#include "cmd/report.h"
#include "cmd/reproduce_evidence.h"
#include "engine/convert.h"
#include "loop/history/loop_protocol.h"
#include "loop/history/loop_trace.h"
#include "loop/history/pinning.h"
#include "loop/result.h"

namespace imgconv {

struct IterationSetup {
  /// Target included: a file that may be written to.
  ConvertOptions convert;
  /// 0: as many as `convert` itself would take.
  unsigned pool_threads = 0;
  std::string protocol;
  history::Memory memory = history::Memory::kNative;
  std::optional<history::Pinning> pinning;
  int64_t timeout_ns = 0;
  /// See loop/history/cold_stores.h.
  unsigned cold_stores = 0;
};

/// kGivenUp: the time limit alone says that it hangs; it may as well be slow.
enum class IterationEnd : uint8_t { kFinished, kHung, kGivenUp, kInterrupted };

struct IterationResult {
  IterationEnd end = IterationEnd::kFinished;
  int64_t elapsed_ns = 0;
  history::LoopFigures figures;
  /// Of a convert that hung or was given up.
  std::optional<Evidence> evidence;
};

/// Leaves no process behind. Errors: the convert itself failed, and its child said why on stderr.
Result<IterationResult> run_iteration(const Report& report, const IterationSetup& setup,
                                      uint64_t seed, bool wants_backtrace, SignalWait& signals);

}  // namespace imgconv
