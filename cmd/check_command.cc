#include "cmd/check_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "cmd/check_report.h"
#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "engine/open_image.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "print errors only"},
    {'f', {"format"}, "FMT", "format of the image (default: probe)", 1},
    kImageOptsOption,
    {'r', {"repair"}, "leaks|all", "repair; refused, as this version only reads", 1},
    {'T', {"cache"}, "CACHE", "how to read the image (default: writeback)"},
    kForceShareOption,
    kOutputOption,
    kObjectOption,
};

struct CheckArguments {
  OpenOptions open;
  std::string output = "human";
  std::string cache = "writeback";
  bool quiet = false;
  bool repair = false;
};

Result<void> accept_option(const Report& report, CheckArguments& check, int key,
                           const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, check.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'q':
      check.quiet = true;
      break;
    case 'T':
      check.cache = value;
      break;
    case kOutputKey:
      check.output = value;
      break;
    case 'r':
      if (value != "leaks" && value != "all") {
        return report.usage_error(
            fmt::format("Unknown option value for -r (expecting 'leaks' or 'all'): {}", value));
      }
      check.repair = true;
      break;
  }
  return ok();
}

Result<int> check_image(const Report& report, const CheckArguments& check, OutputFormat format,
                        const std::string& name) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(ImageRequest request, check.open.request(name));
  request.for_check = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  const CheckSink print_line = [&report](const std::string& line) { report.raw_line(line); };
  const Result<CheckReport> result = runtime.run(chain->top().check(print_line));
  if (!result && result.error().code() == ENOTSUP) {
    report.error("This image format does not support checks");
    return kCheckUnsupported;
  }
  if (!result && result.error().text().starts_with("ERROR ")) {
    report.error(result.error());
    return Error::from_errno(result.error().code(), "Check failed");
  }
  if (!result) return Error(result.error()).within("Check failed");
  if (!check.quiet) {
    print_out("{}", format == OutputFormat::kHuman
                        ? check_to_text(*result)
                        : check_to_json(*result, name, chain->top().info().format));
  }
  if (result->check_errors != 0) report.error("Check failed");
  RETURN_IF_ERROR(runtime.run(chain->close()));
  return check_exit_code(*result);
}

Result<int> run_check(const Report& report, std::span<char*> argv) {
  CheckArguments check;
  ASSIGN_OR_RETURN(const Arguments arguments,
                   parse_arguments(report, kOptions, argv, [&](int key, const std::string& value) {
                     return accept_option(report, check, key, value);
                   }));
  if (arguments.wants_help) {
    print_command_help(report, kCheckCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  ASSIGN_OR_RETURN(const OutputFormat format, parse_output_format(check.output));
  ASSIGN_OR_RETURN(check.open.cache, parse_cache_mode("source cache", check.cache));
  if (check.repair) {
    return Error(ENOTSUP, "This version of the program cannot repair images (-r)");
  }
  return check_image(report, check, format, name);
}

}  // namespace

const Command kCheckCommand = {
    "check", "Verify the metadata of an image",
    "[-q] [-f FMT | --image-opts] [-T CACHE] [-U] [--output=human|json] [--object OBJDEF] FILE",
    kOptions, run_check};

}  // namespace imgconv
