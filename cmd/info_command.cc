#include "cmd/info_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/image_facts.h"
#include "cmd/info_json.h"
#include "cmd/info_text.h"
#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "engine/open_image.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr OptionDef kOptions[] = {
    {'f', {"format"}, "FMT", "format of the image (default: probe)", 1},
    kImageOptsOption,
    {'b', {"backing-chain"}, nullptr, "describe the backing images, too", 1},
    kForceShareOption,
    kUntrustedOption,
    kLimitOption,
    kOutputOption,
    kObjectOption,
};

struct InfoArguments {
  OpenOptions open;
  std::string output = "human";
  bool backing_chain = false;
};

Result<void> accept_option(InfoArguments& info, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, info.open.accept(key, value));
  if (is_taken) return ok();
  if (key == 'b') info.backing_chain = true;
  if (key == kOutputKey) info.output = value;
  return ok();
}

/// One image without its backing images: they are described even when they cannot be read as one
/// disk, and nothing but headers is read.
Result<ImageFacts> facts_of(Runtime& runtime, Messages& messages, ImageRequest request) {
  request.with_backing = false;
  request.metadata_only = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  Result<ImageFacts> facts = gather_facts(chain->layers().front());
  RETURN_IF_ERROR(runtime.run(chain->close()));
  return facts;
}

Result<std::vector<ImageFacts>> collect(const Report& report, const InfoArguments& info,
                                        const std::string& name) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  std::vector<ImageFacts> images;
  std::set<std::string> seen;
  ASSIGN_OR_RETURN(ImageRequest request, info.open.request(name));
  for (;;) {
    if (!seen.insert(request.name).second) {
      return Error(EINVAL,
                   fmt::format("Backing file '{}' creates an infinite loop.", request.name));
    }
    ASSIGN_OR_RETURN(ImageFacts facts, facts_of(runtime, messages, request));
    images.push_back(std::move(facts));
    const ImageFacts& last = images.back();
    if (!info.backing_chain || last.image.backing_file.empty()) return images;
    request.image_opts = false;
    request.name = last.full_backing_filename.value_or(last.image.backing_file);
    request.format = last.image.backing_format;
  }
}

void print(const InfoArguments& info, OutputFormat format, const std::vector<ImageFacts>& images) {
  if (format == OutputFormat::kHuman) {
    for (size_t i = 0; i < images.size(); ++i) {
      print_out("{}{}", i == 0 ? "" : "\n", info_to_text(images[i]));
    }
    return;
  }
  if (!info.backing_chain) {
    print_out("{}\n", to_json(info_to_json(images.front())));
    return;
  }
  InfoValue::Array chain;
  for (const ImageFacts& facts : images) chain.push_back(info_to_json(facts));
  print_out("{}\n", to_json({std::move(chain)}));
}

Result<int> run_info(const Report& report, std::span<char*> argv) {
  InfoArguments info;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&info](int key, const std::string& value) {
        return accept_option(info, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kInfoCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  ASSIGN_OR_RETURN(const OutputFormat format, parse_output_format(info.output));
  ASSIGN_OR_RETURN(const std::vector<ImageFacts> images, collect(report, info, name));
  print(info, format, images);
  return 0;
}

}  // namespace

const Command kInfoCommand = {
    "info", "Describe an image",
    "[-f FMT | --image-opts] [-b] [-U] [--output=human|json] [--object OBJDEF] FILE", kOptions,
    run_info};

}  // namespace imgconv
