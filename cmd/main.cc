// imgconv: the program. Global options, then one of the commands.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <new>
#include <span>
#include <string_view>
#include <vector>

#include "cmd/amend_command.h"
#include "cmd/bench_command.h"
#include "cmd/bitmap_command.h"
#include "cmd/check_command.h"
#include "cmd/command.h"
#include "cmd/commit_command.h"
#include "cmd/compare_command.h"
#include "cmd/convert_command.h"
#include "cmd/create_command.h"
#include "cmd/dd_command.h"
#include "cmd/explain_command.h"
#include "cmd/help.h"
#include "cmd/info_command.h"
#include "cmd/map_command.h"
#include "cmd/measure_command.h"
#include "cmd/option_parser.h"
#include "cmd/progress_bar.h"
#include "cmd/rebase_command.h"
#include "cmd/report.h"
#include "cmd/reproduce_command.h"
#include "cmd/resize_command.h"
#include "cmd/snapshot_command.h"
#include "loop/out_of_memory.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr const Command* kCommands[] = {
    &kAmendCommand,   &kBenchCommand,    &kBitmapCommand,  &kCheckCommand,  &kCommitCommand,
    &kCompareCommand, &kConvertCommand,  &kCreateCommand,  &kDdCommand,     &kExplainCommand,
    &kInfoCommand,    &kMapCommand,      &kMeasureCommand, &kRebaseCommand, &kReproduceCommand,
    &kResizeCommand,  &kSnapshotCommand,
};

constexpr OptionDef kGlobalOptions[] = {
    {'V', {"version"}, nullptr, "print the version and exit", 1},
    {'T', {"trace"}, "SPEC", "accepted and ignored", 1},
};

/// The commands of the program that we are called as.
std::vector<const Command*> commands_of(const Report& report) {
  std::vector<const Command*> commands;
  for (const Command* command : kCommands) {
    if (!command->imgconv_only || report.program_name() != "qemu-img") commands.push_back(command);
  }
  return commands;
}

const Command* find_command(std::span<const Command* const> commands, std::string_view name) {
  for (const Command* command : commands) {
    if (command->name == name) return command;
  }
  return nullptr;
}

Result<int> run(const Report& report, std::span<char*> argv) {
  bool wants_version = false;
  ASSIGN_OR_RETURN(const Arguments arguments, parse_arguments(
                                                  report, kGlobalOptions, argv,
                                                  [&wants_version](int key, const std::string&) {
                                                    wants_version = wants_version || key == 'V';
                                                    return ok();
                                                  },
                                                  OperandOrder::kStopAtFirst));
  const std::vector<const Command*> commands = commands_of(report);
  if (wants_version) {
    print_version(report);
    return 0;
  }
  if (arguments.wants_help) {
    print_general_help(report, commands);
    return 0;
  }
  if (arguments.operands.empty()) return report.usage_error("Not enough arguments");
  const std::string& name = arguments.operands.front();
  const Command* command = find_command(commands, name);
  if (command == nullptr) {
    return report.usage_error(fmt::format("Command not found: {}", name));
  }
  return command->run(report, argv.last(arguments.operands.size()));
}

/// A closed standard descriptor would be the next file that is opened: an image, which then gets
/// the messages.
bool open_standard_descriptors() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) != -1 || errno != EBADF) continue;
    if (::open("/dev/null", O_RDWR) != descriptor) return false;
  }
  return true;
}

}  // namespace
}  // namespace imgconv

int main(int argc, char** argv) {
  if (!imgconv::open_standard_descriptors()) return 1;
  // A reader that goes away is a write error, not a reason to die in the middle of an image.
  std::signal(SIGPIPE, SIG_IGN);
  // So is a limit on the size of files (ulimit -f): EFBIG is said, and cleaned up after.
  std::signal(SIGXFSZ, SIG_IGN);
  std::set_new_handler(imgconv::out_of_memory);
  imgconv::install_progress_signal();
  const imgconv::Report report(argc > 0 ? argv[0] : "imgconv");
  const imgconv::Result<int> exit_code =
      imgconv::run(report, std::span<char*>(argv, static_cast<size_t>(argc)));
  std::fflush(stdout);
  if (exit_code) return *exit_code;
  report.error(exit_code.error());
  return 1;
}
