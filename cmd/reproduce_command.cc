#include "cmd/reproduce_command.h"

#include <csignal>
#include <cstdio>
#include <optional>

#include "cmd/child_process.h"
#include "cmd/help.h"
#include "cmd/reproduce_convert.h"
#include "cmd/reproduce_handoff.h"
#include "cmd/reproduce_matrix.h"
#include "cmd/reproduce_options.h"
#include "loop/try.h"

namespace imgconv {
namespace {

Result<int> run_reproduce(const Report& report, std::span<char*> argv) {
  ASSIGN_OR_RETURN(const ReproduceOptions options, parse_reproduce_arguments(report, argv));
  if (options.wants_help) {
    print_command_help(report, kReproduceCommand);
    return 0;
  }
  // In a child or on another thread nobody would hear of it.
  if (options.pinning) RETURN_IF_ERROR(history::check_pinning(*options.pinning));
  const bool is_matrix = options.protocol == "all";
  // One process, without files: any signal may end it.
  if (options.level == ReproduceLevel::kHandoff) {
    if (is_matrix) return reproduce_matrix(report, options, /*signals=*/nullptr);
    return reproduce_handoff(options);
  }
  std::optional<int> interruption;
  Result<int> exit_code = 0;
  {
    SignalWait signals;
    exit_code = is_matrix ? reproduce_matrix(report, options, &signals)
                          : reproduce_convert(report, options, signals);
    interruption = signals.interruption();
  }
  if (interruption) {
    // Folder and child are gone and the figures so far are printed: now obey.
    std::fflush(stdout);
    std::raise(*interruption);
  }
  return exit_code;
}

}  // namespace

const Command kReproduceCommand = {
    "reproduce",
    "Run the converter in a loop under a wake-up protocol of the past",
    "[--protocol NAME|all] [--memory native|armv8] [--level convert|handoff]\n"
    "      [--iterations N] [--timeout S] [--seed S] [--pin LOOP,POOL] [--cold-stores N]\n"
    "      [--max-delay N] [--requests N] [--output human|json] [-- CONVERT ARGUMENTS]",
    reproduce_option_table(),
    run_reproduce,
    /*imgconv_only=*/true};

}  // namespace imgconv
