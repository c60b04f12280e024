#include "cmd/map_command.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/map_printer.h"
#include "cmd/size_arg.h"
#include "engine/open_image.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr OptionDef kOptions[] = {
    {'f', {"format"}, "FMT", "format of the image (default: probe)", 1},
    kImageOptsOption,
    {'s', {"start-offset"}, "SIZE", "where to begin (default: 0)", 1},
    {'l', {"max-length"}, "SIZE", "how much to describe (default: all)", 1},
    kForceShareOption,
    kUntrustedOption,
    kLimitOption,
    kOutputOption,
    kObjectOption,
};

struct MapArguments {
  OpenOptions open;
  std::string output = "human";
  uint64_t start_offset = 0;
  uint64_t max_length = std::numeric_limits<int64_t>::max();
};

Result<void> accept_option(MapArguments& map, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, map.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 's': {
      ASSIGN_OR_RETURN(map.start_offset, parse_size_arg("start offset", value));
      break;
    }
    case 'l': {
      ASSIGN_OR_RETURN(map.max_length, parse_size_arg("max length", value));
      break;
    }
    case kOutputKey:
      map.output = value;
      break;
  }
  return ok();
}

Result<void> print_map(Runtime& runtime, ImageChain& chain, const MapArguments& map,
                       OutputFormat format) {
  MapPrinter printer(format, map.start_offset, chain);
  const uint64_t size = chain.virtual_size();
  uint64_t offset = map.start_offset;
  // Both addends are below 2^63, so the sum does not wrap.
  const uint64_t end = std::min(map.start_offset + map.max_length, size);
  while (offset < end) {
    Result<std::vector<ChainExtent>> extents = runtime.run(chain.map(offset, end - offset));
    if (!extents) return std::move(extents).error().within("Could not read file metadata");
    for (const ChainExtent& extent : *extents) {
      RETURN_IF_ERROR(printer.add(to_map_entry(extent)));
    }
    offset = extents->back().extent.guest_end();
  }
  return printer.finish();
}

Result<int> run_map(const Report& report, std::span<char*> argv) {
  MapArguments map;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&map](int key, const std::string& value) {
        return accept_option(map, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kMapCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  ASSIGN_OR_RETURN(const OutputFormat format, parse_output_format(map.output));
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(const ImageRequest request, map.open.request(name));
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  RETURN_IF_ERROR(print_map(runtime, *chain, map, format));
  RETURN_IF_ERROR(runtime.run(chain->close()));
  return 0;
}

}  // namespace

const Command kMapCommand = {
    "map", "List what is where in an image",
    "[-f FMT | --image-opts] [-s SIZE] [-l SIZE] [-U] [--output=human|json] [--object OBJDEF] FILE",
    kOptions, run_map};

}  // namespace imgconv
