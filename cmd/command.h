// Command: one subcommand as a row of the table in main.cc. Each command has a file of its own that
// defines one constant of this type.
#pragma once

#include <span>

#include "cmd/option_parser.h"
#include "cmd/report.h"
#include "loop/result.h"

namespace imgconv {

struct Command {
  const char* name;
  /// One line for the list of commands.
  const char* summary;
  /// What follows the command's name on the usage line.
  const char* synopsis;
  std::span<const OptionDef> options;
  /// argv[0] is the command's name. Returns the exit code; an error is printed and means 1.
  Result<int> (*run)(const Report& report, std::span<char*> argv);
  /// qemu-img has no such command: called by that name, the program does not know it either.
  bool imgconv_only = false;
};

}  // namespace imgconv
