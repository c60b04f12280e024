#include "cmd/compare_command.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "cmd/progress_bar.h"
#include "engine/compare.h"
#include "engine/open_image.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

// Exit codes of `compare` beside 0, identical (CLI.md section 8).
constexpr int kDifferent = 1;
constexpr int kCannotOpen = 2;
constexpr int kBlockStatusFailed = 3;
constexpr int kReadFailed = 4;

/// How far progress moves between two lines of -p.
constexpr double kProgressStepPercent = 2.0;

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "print errors only"},
    {'p', {"progress"}, nullptr, "show progress"},
    {'f', {"a-format", "left-format"}, "FMT", "format of the first image (default: probe)"},
    {'F', {"b-format", "right-format"}, "FMT", "format of the second image (default: probe)"},
    kImageOptsOption,
    {'s', {"strict"}, nullptr, "sizes and allocation must be equal, too"},
    {'T', {"cache"}, "CACHE", "how to read the images (default: writeback)"},
    kForceShareOption,
    kUntrustedOption,
    kLimitOption,
    kObjectOption,
};

struct CompareArguments {
  OpenOptions open;
  std::string second_format;
  std::string cache = "writeback";
  CompareOptions options;
  bool progress = false;
  bool has_bad_object = false;
};

Result<void> accept_option(CompareArguments& compare, int key, const std::string& value) {
  if (key == kObjectKey) {
    const Result<void> checked = compare.open.objects.add(value);
    compare.has_bad_object = !checked;
    return checked;
  }
  ASSIGN_OR_RETURN(const bool is_taken, compare.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'q':
      compare.options.quiet = true;
      break;
    case 'p':
      compare.progress = true;
      break;
    case 'F':
      compare.second_format = value;
      break;
    case 's':
      compare.options.strict = true;
      break;
    case 'T':
      compare.cache = value;
      break;
  }
  return ok();
}

int print_outcome(const Report& report, const CompareOutcome& outcome, bool quiet,
                  const std::array<std::string, 2>& names) {
  const auto print = [quiet](const std::string& line) {
    if (!quiet) print_out("{}\n", line);
  };
  const std::string& name = names[outcome.image];
  switch (outcome.verdict) {
    case CompareVerdict::kIdentical:
      print("Images are identical.");
      return 0;
    case CompareVerdict::kContentMismatch:
      print(fmt::format("Content mismatch at offset {}!", outcome.offset));
      return kDifferent;
    case CompareVerdict::kSizeMismatch:
      print("Strict mode: Image size mismatch!");
      return kDifferent;
    case CompareVerdict::kBlockStatusMismatch:
      print(fmt::format("Strict mode: Offset {} block status mismatch!", outcome.offset));
      return kDifferent;
    case CompareVerdict::kBlockStatusFailed:
      report.error(fmt::format("Sector allocation test failed for {}", name));
      return kBlockStatusFailed;
    case CompareVerdict::kReadFailed:
      break;
  }
  report.error(
      fmt::format("Error while reading offset {} of {}: {}", outcome.offset, name, outcome.reason));
  return kReadFailed;
}

/// An error here means exit code 2; compare_images() turns it into one.
Result<int> open_and_compare(const Report& report, const CompareArguments& arguments,
                             const std::array<std::string, 2>& names) {
  const bool quiet = arguments.options.quiet;
  ProgressBar progress(report, arguments.progress && !quiet, kProgressStepPercent);
  progress.begin_line();
  OpenOptions open = arguments.open;
  ASSIGN_OR_RETURN(open.cache, parse_cache_mode("source cache", arguments.cache));
  ASSIGN_OR_RETURN(const ImageRequest first_request, open.request(names[0]));
  open.format = arguments.second_format;
  ASSIGN_OR_RETURN(const ImageRequest second_request, open.request(names[1]));

  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report, &progress);
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> first,
                   runtime.run(open_image(runtime.storage(), first_request, messages)));
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> second,
                   runtime.run(open_image(runtime.storage(), second_request, messages)));
  progress.start();
  CompareOptions options = arguments.options;
  options.on_size_mismatch = [quiet] {
    if (!quiet) print_out("Warning: Image size mismatch!\n");
  };
  const CompareOutcome outcome =
      runtime.run(compare(*first, *second, options, runtime.storage().executor(), messages));
  const int exit_code = print_outcome(report, outcome, quiet, names);
  RETURN_IF_ERROR(runtime.run(first->close()));
  RETURN_IF_ERROR(runtime.run(second->close()));
  return exit_code;
}

Result<int> run_compare(const Report& report, std::span<char*> argv) {
  CompareArguments compare;
  const Result<Arguments> parsed = parse_arguments(
      report, kOptions, argv,
      [&compare](int key, const std::string& value) { return accept_option(compare, key, value); });
  if (!parsed) {
    report.error(parsed.error());
    return compare.has_bad_object ? kCannotOpen : EXIT_FAILURE;
  }
  const Arguments& arguments = *parsed;
  if (arguments.wants_help) {
    print_command_help(report, kCompareCommand);
    return 0;
  }
  if (arguments.operands.size() != 2) return report.usage_error("Expecting two image file names");
  const std::array<std::string, 2> names = {arguments.operands[0], arguments.operands[1]};
  Result<int> exit_code = open_and_compare(report, compare, names);
  if (exit_code) return exit_code;
  // 1 would say that the images differ.
  report.error(exit_code.error());
  return kCannotOpen;
}

}  // namespace

const Command kCompareCommand = {
    "compare", "Tell whether two images are the same disk",
    "[-p] [-q] [-s] [-f FMT] [-F FMT] [--image-opts] [-T CACHE] [-U] [--object OBJDEF] FILE1 FILE2",
    kOptions, run_compare};

}  // namespace imgconv
