#include "cmd/rebase_command.h"

#include <string>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/progress_bar.h"
#include "engine/rebase.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

/// How far progress moves between two lines of -p.
constexpr double kProgressStepPercent = 1.0;

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "print errors only"},
    {'p', {"progress"}, nullptr, "show progress"},
    {'f', {"format"}, "FMT", "format of FILE (default: probe)"},
    {'t', {"cache"}, "CACHE", "how to write FILE (default: writeback)"},
    {'b', {"backing"}, "BACKING", "the new backing file; '' for none"},
    {'F', {"backing-format"}, "FMT", "format of the new backing file"},
    {'T', {"backing-cache"}, "CACHE", "how to read the new backing file (default: writeback)"},
    {'u', {"backing-unsafe"}, nullptr, "change the name only, compare and copy nothing"},
    {'c', {"compress"}, nullptr, "compress what has to be copied into FILE", 1},
    kImageOptsOption,
    kForceShareOption,
    kObjectOption,
};

struct RebaseArguments {
  OpenOptions open;
  RebaseOptions options;
  std::string cache = "writeback";
  std::string backing_cache = "writeback";
  bool progress = false;
  bool quiet = false;
};

Result<void> accept_option(RebaseArguments& rebase, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, rebase.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'q':
      rebase.quiet = true;
      break;
    case 'p':
      rebase.progress = true;
      break;
    case 't':
      rebase.cache = value;
      break;
    case 'b':
      rebase.options.backing_file = value;
      break;
    case 'F':
      rebase.options.backing_format = value;
      break;
    case 'T':
      rebase.backing_cache = value;
      break;
    case 'u':
      rebase.options.is_unsafe = true;
      break;
    case 'c':
      rebase.options.compress = true;
      break;
  }
  return ok();
}

Result<int> rebase_image(const Report& report, RebaseArguments& arguments,
                         const std::string& name) {
  ProgressBar progress(report, arguments.progress && !arguments.quiet, kProgressStepPercent);
  progress.start();
  ASSIGN_OR_RETURN(arguments.open.cache, parse_cache_mode("cache", arguments.cache));
  RebaseOptions& options = arguments.options;
  ASSIGN_OR_RETURN(options.backing_cache,
                   parse_cache_mode("source cache", arguments.backing_cache));
  // -U is meant for the new backing file: the image itself is written.
  options.force_share = arguments.open.force_share;
  arguments.open.force_share = false;
  ASSIGN_OR_RETURN(options.image, arguments.open.request(name));

  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report, &progress);
  RETURN_IF_ERROR(runtime.run(rebase(runtime.storage(), options, messages)));
  return 0;
}

Result<int> run_rebase(const Report& report, std::span<char*> argv) {
  RebaseArguments rebase;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&rebase](int key, const std::string& value) {
        return accept_option(rebase, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kRebaseCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  if (!rebase.options.is_unsafe && !rebase.options.backing_file) {
    return report.usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
  }
  return rebase_image(report, rebase, name);
}

}  // namespace

const Command kRebaseCommand = {
    "rebase", "Change the backing file of an image",
    "[-q] [-p] [-f FMT] [-t CACHE] [-b BACKING [-F FMT]] [-T CACHE] [-u] [-c] [--image-opts] [-U] "
    "[--object OBJDEF] FILE",
    kOptions, run_rebase};

}  // namespace imgconv
