// parse_litmus: a litmus test in herd's C syntax becomes a Program.
//
// The subset and the additions (QEMU's and GCC's primitives, mutexes) are listed in README.md here.
// The text may come from anywhere: size, nesting, threads and statements are bounded, and each
// error names its line. Pure; any thread.
#pragma once

#include <string_view>

#include "loop/memory_model/program.h"
#include "loop/result.h"

namespace imgconv::memory_model {

/// EINVAL "line 7: unknown memory order 'memory_order_strong'".
Result<Program> parse_litmus(std::string_view source);

}  // namespace imgconv::memory_model
