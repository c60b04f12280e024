// Programs and timelines in a notation that fits side by side: "b = load(sched, relaxed)".
//
// For people; parse_litmus() does not read it. Pure, any thread.
#pragma once

#include <string>
#include <vector>

#include "loop/memory_model/explore.h"
#include "loop/memory_model/program.h"

namespace imgconv::memory_model {

/// One line a statement, with blanks in front of what stands in a branch.
std::vector<std::string> listing(const Program& program, const Thread& thread);

/// "ldr sched -> 0", "stlxr nm := 1", "swpal sched: 0 -> 1", "dmb ish".
std::string to_text(const Program& program, const Step& step);

}  // namespace imgconv::memory_model
