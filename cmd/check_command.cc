#include "cmd/check_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
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
    {'r', {"repair"}, "leaks|all", "repair: only leaked clusters, or all that can be", 1},
    {'T', {"cache"}, "CACHE", "how to read the image (default: writeback)"},
    kForceShareOption,
    kUntrustedOption,
    kLimitOption,
    kOutputOption,
    kObjectOption,
};

struct CheckArguments {
  OpenOptions open;
  std::string output = "human";
  std::string cache = "writeback";
  bool quiet = false;
  RepairMode repair = RepairMode::kNone;
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
      if (value == "leaks") {
        check.repair = RepairMode::kLeaks;
      } else if (value == "all") {
        check.repair = RepairMode::kAll;
      } else {
        return report.usage_error(
            fmt::format("Unknown option value for -r (expecting 'leaks' or 'all'): {}", value));
      }
      break;
  }
  return ok();
}

/// Prints what a check finds. The first lines one by one, for somebody who watches a long check; a
/// hopeless image has a million, and a call to the system for each took two thirds of the time.
class FindingsPrinter {
 public:
  /// `report` must outlive it.
  explicit FindingsPrinter(const Report& report) : report_(report) {}
  ~FindingsPrinter() { flush(); }
  FindingsPrinter(const FindingsPrinter&) = delete;
  FindingsPrinter& operator=(const FindingsPrinter&) = delete;

  void print(const std::string& line) {
    if (!pending_.empty()) pending_ += '\n';
    pending_ += line;
    if (++lines_ <= kPrintedAtOnce || pending_.size() >= kBlockBytes) flush();
  }

 private:
  static constexpr uint64_t kPrintedAtOnce = 1000;
  static constexpr size_t kBlockBytes = size_t{64} << 10;

  void flush() {
    if (pending_.empty()) return;
    report_.raw_line(pending_);
    pending_.clear();
  }

  const Report& report_;
  std::string pending_;
  uint64_t lines_ = 0;
};

/// Checks, or repairs what `mode` allows; nothing that was found is left unprinted.
Result<CheckReport> check_or_repair(const Report& report, Runtime& runtime, Image& image,
                                    RepairMode mode) {
  FindingsPrinter printer(report);
  const CheckSink print_line = [&printer](const std::string& line) { printer.print(line); };
  return runtime.run(mode == RepairMode::kNone ? image.check(print_line)
                                               : image.repair(mode, print_line));
}

/// The error is ready to be printed; what is due before it was.
Error check_failed(const Report& report, const Error& error) {
  if (error.text().starts_with("ERROR ")) report.error(error);
  return Error::from_errno(error.code(), "Check failed");
}

/// What was repaired is told, and the image looked at anew. In a file that takes both streams,
/// qemu-img's complaints of the second look stand before what was repaired; its own test 271 has
/// them there.
Result<CheckReport> check_repaired(const Report& report, Runtime& runtime, Image& image,
                                   const CheckReport& repaired, bool is_told) {
  const CheckSink print_line = [&report](const std::string& line) { report.unordered_line(line); };
  if (is_told) print_out("{}", repairs_to_text(repaired));
  ASSIGN_OR_RETURN(CheckReport result, runtime.run(image.check(print_line)));
  result.corruptions_fixed = repaired.corruptions_fixed;
  result.leaks_fixed = repaired.leaks_fixed;
  return result;
}

Result<int> check_image(const Report& report, const CheckArguments& check, OutputFormat format,
                        const std::string& name) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(ImageRequest request, check.open.request(name));
  request.for_check = true;
  request.writable = check.repair != RepairMode::kNone;
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  Image& image = chain->top();
  Result<CheckReport> result = check_or_repair(report, runtime, image, check.repair);
  if (!result && result.error().code() == ENOTSUP) {
    report.error("This image format does not support checks");
    return kCheckUnsupported;
  }
  const bool is_human = format == OutputFormat::kHuman;
  if (result && (result->corruptions_fixed != 0 || result->leaks_fixed != 0)) {
    result = check_repaired(report, runtime, image, *result, is_human && !check.quiet);
  }
  if (!result) return check_failed(report, result.error());
  if (!check.quiet) {
    print_out("{}", is_human ? check_to_text(*result)
                             : check_to_json(*result, name, image.info().format));
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
  return check_image(report, check, format, name);
}

}  // namespace

const Command kCheckCommand = {
    "check", "Verify the metadata of an image",
    "[-q] [-f FMT | --image-opts] [--output=human|json] [-r leaks|all] [-T CACHE] [-U] "
    "[--object OBJDEF] FILE",
    kOptions, run_check};

}  // namespace imgconv
