#include "cmd/convert_command.h"

#include <fmt/format.h>

#include <string>

#include "cmd/console_messages.h"
#include "cmd/convert_options.h"
#include "cmd/creation_options_help.h"
#include "cmd/help.h"
#include "cmd/progress_bar.h"
#include "engine/convert.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

/// How far progress moves between two lines of -p.
constexpr double kProgressStepPercent = 1.0;

void print_summary(const Report& report, const ConvertSummary& summary) {
  report.raw_line(fmt::format("Virtual size: {} bytes; written: {} bytes; zeros: {} bytes",
                              summary.virtual_size, summary.bytes_written, summary.bytes_zero));
}

Result<int> run_convert(const Report& report, std::span<char*> argv) {
  ASSIGN_OR_RETURN(const ConvertArguments arguments, parse_convert_arguments(report, argv));
  if (arguments.wants_help) {
    print_command_help(report, kConvertCommand);
    return 0;
  }
  const ConvertOptions& options = arguments.options;
  if (arguments.wants_creation_options_help) {
    return print_creation_options(options.target_format, !options.target.empty());
  }
  ProgressBar progress(report, arguments.progress && !arguments.quiet, kProgressStepPercent);
  progress.start();
  ConsoleMessages messages(report, &progress);
  Runtime runtime(arguments.runtime);
  if (arguments.verbose) report.raw_line(runtime.backend_note());
  ASSIGN_OR_RETURN(const ConvertSummary summary,
                   runtime.run(convert(runtime.storage(), options, messages)));
  progress.finish();
  if (arguments.verbose) print_summary(report, summary);
  return 0;
}

}  // namespace

const Command kConvertCommand = {
    "convert", "Copy one or several images into one of another format",
    "[-f FMT | --image-opts] [-T CACHE] [-l SNAP] [-O FMT] [-o OPTS | -n [--target-is-zero]\n"
    "      [--target-image-opts]] [-t CACHE] [-B FILE [-F FMT]] [-c] [-S SIZE] [-m N] [-W] [-C]\n"
    "      [-r SIZE] [--salvage] [--bitmaps [--skip-broken-bitmaps]] [-p] [-q] [-v] [-U] [--object "
    "OBJDEF] SOURCE [SOURCE...] TARGET",
    convert_option_table(), run_convert};

}  // namespace imgconv
