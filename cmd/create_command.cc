#include "cmd/create_command.h"

#include <fmt/format.h>

#include <optional>
#include <string>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/creation_options_help.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "cmd/size_arg.h"
#include "engine/create_image.h"
#include "formats/options.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "do not print the line about what is created"},
    {'f', {"format"}, "FMT", "format of the new image (default: raw)"},
    {'o', {"options"}, "OPTS", "options of the format, a=x,b=y; '-o help' lists them"},
    {'b', {"backing"}, "FILE", "make an overlay of FILE"},
    {'F', {"backing-format"}, "FMT", "format of the backing file"},
    {'u', {"backing-unsafe"}, nullptr, "do not open the backing file; SIZE is then required"},
    kObjectOption,
};

struct CreateArguments {
  CreateRequest request;
  SecretObjects objects;
  bool quiet = false;
};

Result<void> accept_option(CreateArguments& create, int key, const std::string& value) {
  CreateRequest& request = create.request;
  switch (key) {
    case 'q':
      create.quiet = true;
      break;
    case 'f':
      request.format = value;
      break;
    case 'o':
      return append_creation_options(request.options, value);
    case 'b':
      request.backing_file = value;
      break;
    case 'F':
      request.backing_format = value;
      break;
    case 'u':
      request.backing_unsafe = true;
      break;
    case kObjectKey:
      return create.objects.add(value);
  }
  return ok();
}

Result<int> create_image(const Report& report, const CreateArguments& create) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(const PreparedCreate prepared,
                   runtime.run(prepare_create(runtime.storage(), create.request, messages)));
  if (!create.quiet) print_out("{}\n", prepared.formatting_line);
  RETURN_IF_ERROR(runtime.run(perform_create(runtime.storage(), prepared)));
  return 0;
}

Result<int> run_create(const Report& report, std::span<char*> argv) {
  CreateArguments create;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&create](int key, const std::string& value) {
        return accept_option(create, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kCreateCommand);
    return 0;
  }
  const std::vector<std::string>& operands = arguments.operands;
  if (asks_for_help(create.request.options)) {
    return print_creation_options(create.request.format, !operands.empty());
  }
  if (operands.empty()) return report.usage_error("Expecting image file name");
  create.request.name = operands[0];
  if (operands.size() > 1) {
    ASSIGN_OR_RETURN(create.request.size, parse_size_arg("image size", operands[1]));
  }
  if (operands.size() > 2) {
    return report.usage_error(fmt::format("Unexpected argument: {}", operands[2]));
  }
  return create_image(report, create);
}

}  // namespace

const Command kCreateCommand = {
    "create", "Create a new, empty image",
    "[-q] [-f FMT] [-o OPTS] [-b FILE [-F FMT]] [-u] [--object OBJDEF] FILE [SIZE]", kOptions,
    run_create};

}  // namespace imgconv
