// Help texts, made from the option tables. They go to stdout, since they were asked for.
#pragma once

#include <span>

#include "cmd/command.h"
#include "cmd/report.h"

namespace imgconv {

void print_command_help(const Report& report, const Command& command);
void print_general_help(const Report& report, std::span<const Command* const> commands);
void print_version(const Report& report);

}  // namespace imgconv
