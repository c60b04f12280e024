#include "cmd/help.h"

#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "cmd/output.h"
#include "formats/registry.h"

namespace imgconv {

namespace {

void print_option(const OptionDef& option) {
  std::string names;
  const auto add = [&names](const std::string& name) {
    if (!names.empty()) names += ", ";
    names += name;
  };
  if (option.key < kFirstLongOnlyKey) add({'-', static_cast<char>(option.key)});
  for (const char* name : option.long_names) {
    if (name != nullptr) add(std::string("--") + name);
  }
  if (option.value_name != nullptr) names += std::string(" ") + option.value_name;
  print_out("  {}\n      {}\n", names, option.help);
}

}  // namespace

void print_version(const Report& report) {
  // Scripts read the version of the behaviour from this line, hence qemu-img's number; the second
  // line tells which program it really is.
  print_out("{} version 10.0.2 (imgconv {})\n", report.program_name(), IMGCONV_VERSION);
  print_out("imgconv, a disk image converter compatible with qemu-img\n");
}

void print_command_help(const Report& report, const Command& command) {
  print_out("{}.\n\nUsage:\n  {} {} {}\n\nOptions:\n", command.summary, report.program_name(),
            command.name, command.synopsis);
  print_option(kHelpOption);
  for (const OptionDef& option : command.options) {
    if (is_offered(report, option)) print_option(option);
  }
}

void print_general_help(const Report& report, std::span<const Command* const> commands) {
  print_version(report);
  print_out("\nUsage:\n  {} [-h|--help] [-V|--version] [-T|--trace SPEC] COMMAND [options]\n\n",
            report.program_name());
  print_out("Commands (see '{} COMMAND --help' for the options of one):\n", report.program_name());
  for (const Command* command : commands) {
    print_out("  {:<9} {}\n", command->name, command->summary);
  }
  print_out(
      "\nSIZE is a number of bytes with an optional suffix b, k, M, G, T, P or E (powers of "
      "1024).\n"
      "CACHE is one of none, writeback, writethrough, directsync, unsafe.\n"
      "\nSupported formats:");
  for (const BlockDriver* driver : all_drivers()) print_out(" {}", driver->name());
  print_out("\n");
}

}  // namespace imgconv
