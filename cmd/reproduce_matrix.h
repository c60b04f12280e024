// The matrix of `reproduce --protocol all`: every protocol of the case file under each memory, what
// the explorer of memory models says and what was seen here. Main thread.
#pragma once

#include "cmd/child_process.h"
#include "cmd/report.h"
#include "cmd/reproduce_options.h"
#include "loop/result.h"

namespace imgconv {

/// A cell ends with its first hang. `signals`: null at the hand-off level. The exit code.
Result<int> reproduce_matrix(const Report& report, const ReproduceOptions& options,
                             SignalWait* signals);

}  // namespace imgconv
