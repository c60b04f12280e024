#include "cmd/dd_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <limits>
#include <string>
#include <string_view>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/size_arg.h"
#include "engine/dd.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr OptionDef kOptions[] = {
    {'f', {"format"}, "FMT", "format of the input (default: probe)"},
    {'O', {"output-format"}, "FMT", "format of the output (default: raw)"},
    kImageOptsOption,
    kForceShareOption,
    kObjectOption,
};

struct DdArguments {
  OpenOptions open;
  DdOptions options;
  bool has_input = false;
  bool has_output = false;
};

Result<void> accept_option(DdArguments& dd, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, dd.open.accept(key, value));
  if (!is_taken) dd.options.output_format = value;
  return ok();
}

/// One "name=value".
Result<void> accept_operand(DdArguments& dd, const std::string& operand) {
  const size_t equals = operand.find('=');
  const std::string_view name = std::string_view(operand).substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : operand.substr(equals + 1);
  DdOptions& options = dd.options;
  if (equals != std::string::npos && name == "if") {
    options.input.name = value;
    dd.has_input = true;
  } else if (equals != std::string::npos && name == "of") {
    options.output = value;
    dd.has_output = true;
  } else if (equals != std::string::npos && name == "bs") {
    // As the original, which keeps it in an int.
    constexpr SizeLimits kLimits{1, std::numeric_limits<int32_t>::max()};
    ASSIGN_OR_RETURN(options.block_size, parse_size_arg("bs", value, kLimits));
  } else if (equals != std::string::npos && name == "count") {
    ASSIGN_OR_RETURN(options.count, parse_size_arg("count", value));
  } else if (equals != std::string::npos && name == "skip") {
    ASSIGN_OR_RETURN(options.skip, parse_size_arg("skip", value));
  } else {
    return Error(EINVAL, fmt::format("unrecognized operand {}", name));
  }
  return ok();
}

Result<int> run_dd(const Report& report, std::span<char*> argv) {
  DdArguments dd_arguments;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&dd_arguments](int key, const std::string& value) {
        return accept_option(dd_arguments, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kDdCommand);
    return 0;
  }
  RETURN_IF_ERROR(check_image_opts(dd_arguments.open.image_opts, dd_arguments.open.format));
  for (const std::string& operand : arguments.operands) {
    RETURN_IF_ERROR(accept_operand(dd_arguments, operand));
  }
  if (!dd_arguments.has_input || !dd_arguments.has_output) {
    return Error(EINVAL, "Must specify both input and output files");
  }
  DdOptions& options = dd_arguments.options;
  ASSIGN_OR_RETURN(options.input, dd_arguments.open.request(options.input.name));
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  RETURN_IF_ERROR(runtime.run(dd(runtime.storage(), options, messages)));
  return 0;
}

}  // namespace

const Command kDdCommand = {
    "dd", "Copy a part of an image into a new one",
    "[-f FMT] [-O FMT] [--image-opts] [-U] [--object OBJDEF] [bs=SIZE] [count=BLOCKS] "
    "[skip=BLOCKS] if=INPUT of=OUTPUT",
    kOptions, run_dd};

}  // namespace imgconv
