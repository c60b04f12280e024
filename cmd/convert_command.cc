#include "cmd/convert_command.h"

#include <fmt/format.h>

#include <string>

#include "cmd/console_messages.h"
#include "cmd/convert_options.h"
#include "cmd/creation_options_help.h"
#include "cmd/help.h"
#include "cmd/json_writer.h"
#include "cmd/output.h"
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

/// A line as sha256sum writes it, which escapes names of several lines.
std::string checksum_line(const DigestValue& digest, const std::string& target) {
  std::string name;
  bool is_escaped = false;
  for (const char letter : (digest.is_of_file ? "" : "guest:") + target) {
    const bool needs_escape = letter == '\n' || letter == '\r' || letter == '\\';
    is_escaped |= needs_escape;
    if (needs_escape) name += '\\';
    name += letter == '\n' ? 'n' : letter == '\r' ? 'r' : letter;
  }
  return fmt::format("{}{}  {}\n", is_escaped ? "\\" : "", digest.hexadecimal, name);
}

void print_digests(const ConvertSummary& summary, const ConvertOptions& options,
                   OutputFormat format) {
  if (format == OutputFormat::kHuman) {
    for (const DigestValue& digest : summary.digests) {
      print_out("{}", checksum_line(digest, options.target));
    }
    return;
  }
  InfoValue::Array digests;
  for (const DigestValue& digest : summary.digests) {
    InfoValue::Object member;
    add_member(member, "algorithm", digest.request.algorithm);
    add_member(member, "content", std::string(digest.request.of_file ? "file" : "guest"));
    add_member(member, "digest", digest.hexadecimal);
    digests.push_back({std::move(member)});
  }
  InfoValue::Object object;
  add_member(object, "filename", options.target);
  add_member(object, "virtual-size", summary.virtual_size);
  add_member(object, "verified", options.verify);
  add_member(object, "digests", std::move(digests));
  print_out("{}\n", to_json({std::move(object)}));
}

Result<int> run_convert(const Report& report, std::span<char*> argv) {
  ASSIGN_OR_RETURN(ConvertArguments arguments, parse_convert_arguments(report, argv));
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
  RETURN_IF_ERROR(resolve_cache_modes(arguments));
  ConsoleMessages messages(report, &progress);
  Runtime runtime(arguments.runtime);
  if (arguments.verbose) report.raw_line(runtime.backend_note());
  ASSIGN_OR_RETURN(const ConvertSummary summary,
                   runtime.run(convert(runtime.storage(), options, messages)));
  progress.finish();
  print_digests(summary, options, arguments.output);
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
