// The hand-off level of `reproduce`: the bare hand-off of loop/history/handoff.h, and its figures
// as text and JSON. Main thread.
#pragma once

#include <cstdint>
#include <string>

#include "cmd/report.h"
#include "cmd/reproduce_options.h"
#include "loop/history/handoff.h"
#include "loop/result.h"

namespace imgconv {

/// What the options say, for one protocol.
history::HandoffOptions handoff_options(const ReproduceOptions& options,
                                        const std::string& protocol, history::Memory memory,
                                        uint64_t max_rounds);

/// `reproduce --level handoff` for one protocol. The exit code.
Result<int> reproduce_handoff(const ReproduceOptions& options);

}  // namespace imgconv
