#include "cmd/commit_command.h"

#include <string>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "cmd/progress_bar.h"
#include "cmd/size_arg.h"
#include "engine/commit.h"
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
    {'t', {"cache"}, "CACHE", "how to write the images (default: writeback)"},
    {'b', {"base"}, "BASE", "the backing file to write to (default: that of FILE); implies -d"},
    {'d', {"drop"}, nullptr, "do not empty FILE afterwards"},
    {'r', {"rate"}, "SIZE", "write at most so many bytes per second"},
    kImageOptsOption,
    kObjectOption,
};

struct CommitArguments {
  OpenOptions open;
  CommitOptions options;
  std::string cache = "writeback";
  bool progress = false;
  bool quiet = false;
};

Result<void> accept_option(CommitArguments& commit, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, commit.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'q':
      commit.quiet = true;
      break;
    case 'p':
      commit.progress = true;
      break;
    case 't':
      commit.cache = value;
      break;
    case 'b':
      commit.options.base = value;
      break;
    case 'd':
      commit.options.drops_overlay = true;
      break;
    case 'r': {
      ASSIGN_OR_RETURN(commit.options.rate_limit, parse_size_arg("rate limit", value));
      break;
    }
  }
  return ok();
}

Result<int> commit_image(const Report& report, CommitArguments& arguments,
                         const std::string& name) {
  ASSIGN_OR_RETURN(arguments.open.cache, parse_cache_mode("cache", arguments.cache));
  ASSIGN_OR_RETURN(arguments.options.image, arguments.open.request(name));
  {
    // Its end, the end of the line, comes before what is said below.
    ProgressBar progress(report, arguments.progress && !arguments.quiet, kProgressStepPercent);
    Runtime runtime(RuntimeOptions{});
    ConsoleMessages messages(report, &progress);
    RETURN_IF_ERROR(runtime.run(commit(runtime.storage(), arguments.options, messages)));
  }
  if (!arguments.quiet) print_out("Image committed.\n");
  return 0;
}

Result<int> run_commit(const Report& report, std::span<char*> argv) {
  CommitArguments commit;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&commit](int key, const std::string& value) {
        return accept_option(commit, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kCommitCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  return commit_image(report, commit, name);
}

}  // namespace

const Command kCommitCommand = {
    "commit", "Write the content of an overlay into its backing file",
    "[-q] [-p] [-f FMT] [-t CACHE] [-b BASE] [-d] [-r SIZE] [--image-opts] [--object OBJDEF] FILE",
    kOptions, run_commit};

}  // namespace imgconv
