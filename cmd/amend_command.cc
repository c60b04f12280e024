#include "cmd/amend_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "cmd/progress_bar.h"
#include "engine/open_image.h"
#include "formats/format_names.h"
#include "formats/options.h"
#include "formats/registry.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

enum Key : int { kForceKey = kFirstCommandKey };

constexpr double kProgressStepPercent = 1;

constexpr OptionDef kOptions[] = {
    {'p', {"progress"}, nullptr, "show progress"},
    {'q', {"quiet"}, nullptr, "print errors only"},
    {'f', {"format"}, "FMT", "format of the image (default: probe)"},
    kImageOptsOption,
    {'t', {"cache"}, "CACHE", "how to write the image (default: writeback)"},
    {kForceKey, {"force"}, nullptr, "accepted; concerns encrypted images only", 1},
    {'o', {"options"}, "OPTS", "what to change, a=x,b=y; '-o help' lists the options"},
    kObjectOption,
};

struct AmendArguments {
  OpenOptions open;
  std::string cache = "writeback";
  std::string options;
  bool progress = false;
  bool quiet = false;
};

Result<void> accept_option(AmendArguments& amend, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, amend.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'p':
      amend.progress = true;
      break;
    case 'q':
      amend.quiet = true;
      break;
    case 't':
      amend.cache = value;
      break;
    case 'o':
      return append_creation_options(amend.options, value);
  }
  return ok();
}

Result<const OptionList*> amend_options_of(const std::string& format) {
  // A bare file is a raw image under another name.
  const BlockDriver* const driver = find_driver(format == "file" ? "raw" : format);
  if (driver == nullptr) return no_amendment(format);
  const OptionList* const options = driver->amend_options();
  if (options != nullptr) return options;
  return Error(ENOTSUP,
               fmt::format("Format driver '{}' does not support option amendment", format));
}

Result<int> print_options(const std::string& format) {
  ASSIGN_OR_RETURN(const OptionList* const options, amend_options_of(format));
  print_out("Amend options for '{}':\n", format);
  for (const std::string& line : option_help(*options)) print_out("{}\n", line);
  return 0;
}

bool has_option(const OptionList& list, std::string_view name) {
  return std::ranges::find(list, name, &OptionSpec::name) != list.end();
}

/// What exists but cannot be changed any more is told apart from what does not exist.
Result<OptionValues> parse(const std::string& format, const OptionList& amendable,
                           const std::string& text) {
  const OptionList& creatable = find_driver(format)->create_options();
  OptionList all = amendable;
  for (const OptionSpec& spec : creatable) {
    if (!has_option(amendable, spec.name)) all.push_back(spec);
  }
  ASSIGN_OR_RETURN(OptionValues values, parse_options(all, text));
  for (const OptionSpec& spec : creatable) {
    if (has_option(amendable, spec.name) || !values.has(spec.name)) continue;
    return Error(EINVAL, fmt::format("Invalid parameter '{}'", spec.name))
        .with_hint("This option is only supported for image creation");
  }
  return values;
}

Result<void> amend_chain(Runtime& runtime, ImageChain& chain, const OptionValues& options,
                         ProgressBar& progress) {
  AmendRequest request;
  request.options = options;
  if (chain.layers().size() > 1) {
    request.backing_size = chain.layers()[1].image->info().virtual_size;
  }
  request.progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); };
  Result<void> amended = runtime.run(chain.top().amend(request));
  // Also after a failure: bitmaps may have been marked as in use.
  Result<void> closed = runtime.run(chain.close());
  return amended ? closed : amended;
}

Result<int> amend_file(const Report& report, const AmendArguments& amend, const std::string& name,
                       ProgressBar& progress) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(ImageRequest request, amend.open.request(name));
  request.writable = true;
  ASSIGN_OR_RETURN(request.cache, parse_cache_mode("cache", amend.cache));
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  const std::string& format = chain->layers().front().format;
  if (asks_for_help(amend.options)) return print_options(format);
  ASSIGN_OR_RETURN(const OptionList* const amendable, amend_options_of(format));
  ASSIGN_OR_RETURN(const OptionValues options, parse(format, *amendable, amend.options));
  progress.start();
  const Result<void> amended = amend_chain(runtime, *chain, options, progress);
  progress.finish();
  if (!amended) return amended.error();
  return 0;
}

Result<int> run_amend(const Report& report, std::span<char*> argv) {
  AmendArguments amend;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&amend](int key, const std::string& value) {
        return accept_option(amend, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kAmendCommand);
    return 0;
  }
  if (amend.options.empty()) return report.usage_error("Must specify options (-o)");
  // Its line ends whatever comes, as qemu-img's does.
  ProgressBar progress(report, amend.progress && !amend.quiet, kProgressStepPercent);
  progress.begin_line();
  if (!amend.open.format.empty() && asks_for_help(amend.options)) {
    return print_options(amend.open.format);
  }
  if (arguments.operands.size() != 1) return Error(EINVAL, "Expecting one image file name");
  return amend_file(report, amend, arguments.operands.front(), progress);
}

}  // namespace

const Command kAmendCommand = {
    "amend", "Change options of an existing image",
    "[-p] [-q] [-f FMT | --image-opts] [-t CACHE] [--force] [--object OBJDEF] -o OPTS FILE",
    kOptions, run_amend};

}  // namespace imgconv
