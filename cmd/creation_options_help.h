// The list that `-o help` prints (CLI.md 1.3).
#pragma once

#include <string>

#include "loop/result.h"

namespace imgconv {

/// Prints the creation options of `format` to stdout and returns the exit code. With a target name
/// the options of the file below the format are listed, too.
Result<int> print_creation_options(const std::string& format, bool has_target_name);

}  // namespace imgconv
