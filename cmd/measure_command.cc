#include "cmd/measure_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "cmd/size_arg.h"
#include "engine/measure.h"
#include "engine/open_image.h"
#include "engine/snapshot_selector.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr OptionDef kOptions[] = {
    {'O', {"target-format"}, "FMT", "format of the image to be made (default: raw)"},
    {'o', {"options"}, "OPTS", "creation options of the image to be made"},
    {'s', {"size"}, "SIZE", "measure for an empty disk of this size", 1},
    {'f', {"format"}, "FMT", "format of FILE (default: probe)"},
    kImageOptsOption,
    {'l', {"snapshot"}, "SNAP", "measure the internal snapshot with this ID or name"},
    kForceShareOption,
    kUntrustedOption,
    kLimitOption,
    kOutputOption,
    kObjectOption,
};

struct MeasureArguments {
  explicit MeasureArguments(const Report& report) : messages(report) {}

  ConsoleMessages messages;
  OpenOptions open;
  MeasureRequest request;
  std::string output = "human";
  std::optional<SnapshotSelector> snapshot;
};

Result<void> accept_option(MeasureArguments& measure, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, measure.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'O':
      measure.request.target_format = value;
      break;
    case 'o':
      return append_creation_options(measure.request.target_options, value);
    case 's': {
      ASSIGN_OR_RETURN(measure.request.size, parse_size_arg("image size", value));
      break;
    }
    case 'l': {
      ASSIGN_OR_RETURN(measure.snapshot, parse_snapshot_selector(value, measure.messages));
      break;
    }
    case kOutputKey:
      measure.output = value;
      break;
  }
  return ok();
}

/// Either --size or one file, and the options that go with it.
Result<void> check_combination(const MeasureArguments& measure, const Arguments& arguments) {
  const bool has_file = !arguments.operands.empty();
  if (arguments.operands.size() > 1) {
    return Error(EINVAL, "At most one filename argument is allowed.");
  }
  const bool has_file_option =
      measure.open.image_opts || !measure.open.format.empty() || measure.snapshot.has_value();
  if (!has_file && has_file_option) {
    return Error(EINVAL, "--image-opts, -f, and -l require a filename argument.");
  }
  if (!has_file && !measure.request.size) {
    return Error(EINVAL, "Either --size N or one filename must be specified.");
  }
  if (has_file && measure.request.size) {
    return Error(EINVAL, "--size N cannot be used together with a filename.");
  }
  return ok();
}

Result<MeasureReport> measure_file(Runtime& runtime, MeasureArguments& measure,
                                   const std::string& name) {
  ASSIGN_OR_RETURN(const ImageRequest request, measure.open.request(name));
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, measure.messages)));
  if (measure.snapshot) {
    RETURN_IF_ERROR(runtime.run(load_snapshot(chain->top(), *measure.snapshot)));
  }
  Result<MeasureReport> report =
      runtime.run(imgconv::measure(measure.request, chain.get(), &measure.messages));
  RETURN_IF_ERROR(runtime.run(chain->close()));
  return report;
}

void print(const MeasureReport& measured, OutputFormat format) {
  if (format == OutputFormat::kHuman) {
    print_out("required size: {}\nfully allocated size: {}\n", measured.required,
              measured.fully_allocated);
    if (measured.bitmaps) print_out("bitmaps size: {}\n", *measured.bitmaps);
    return;
  }
  InfoValue::Object object;
  if (measured.bitmaps) add_member(object, "bitmaps", *measured.bitmaps);
  add_member(object, "required", measured.required);
  add_member(object, "fully-allocated", measured.fully_allocated);
  print_out("{}\n", to_json({std::move(object)}));
}

Result<int> run_measure(const Report& report, std::span<char*> argv) {
  MeasureArguments measure(report);
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&measure](int key, const std::string& value) {
        return accept_option(measure, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kMeasureCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const OutputFormat format, parse_output_format(measure.output));
  RETURN_IF_ERROR(check_combination(measure, arguments));
  Runtime runtime(RuntimeOptions{});
  ASSIGN_OR_RETURN(const MeasureReport measured,
                   measure.request.size
                       ? runtime.run(imgconv::measure(measure.request, nullptr, &measure.messages))
                       : measure_file(runtime, measure, arguments.operands.front()));
  print(measured, format);
  return 0;
}

}  // namespace

const Command kMeasureCommand = {
    "measure", "Tell how much space an image would need",
    "[-O FMT] [-o OPTS] [--output=human|json] [--size SIZE | [-f FMT | --image-opts] [-l SNAP] "
    "[-U] [--object OBJDEF] FILE]",
    kOptions, run_measure};

}  // namespace imgconv
