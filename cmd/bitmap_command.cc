#include "cmd/bitmap_command.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/size_arg.h"
#include "engine/bitmap.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

enum BitmapKey : int {
  kAddKey = kFirstCommandKey,
  kRemoveKey,
  kClearKey,
  kEnableKey,
  kDisableKey,
  kMergeKey,
};

constexpr OptionDef kOptions[] = {
    {kAddKey, {"add"}, nullptr, "make the bitmap, which then records what is written", 1},
    {kRemoveKey, {"remove"}, nullptr, "remove the bitmap", 1},
    {kClearKey, {"clear"}, nullptr, "forget what was recorded", 1},
    {kEnableKey, {"enable"}, nullptr, "record from now on", 1},
    {kDisableKey, {"disable"}, nullptr, "stop recording", 1},
    {kMergeKey, {"merge"}, "SOURCE", "add what another bitmap has recorded", 1},
    {'b', {"source-file"}, "FILE", "image with the bitmap to merge (default: the same image)", 1},
    {'F', {"source-format"}, "FMT", "format of that image (default: probe)", 1},
    {'g', {"granularity"}, "SIZE", "bytes of the disk for each bit of a new bitmap", 1},
    {'f', {"format"}, "FMT", "format of the image (default: probe)"},
    kImageOptsOption,
    kObjectOption,
};

struct BitmapArguments {
  OpenOptions open;
  std::optional<std::string> source_file;
  std::string source_format;
  BitmapRequest request;

  void add_action(BitmapAction::Kind kind, std::string source = {}) {
    request.actions.push_back({kind, std::move(source)});
  }
  bool has_action(BitmapAction::Kind kind) const {
    return std::ranges::find(request.actions, kind, &BitmapAction::kind) != request.actions.end();
  }
};

Result<void> accept_option(BitmapArguments& bitmap, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, bitmap.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case kAddKey:
      bitmap.add_action(BitmapAction::Kind::kAdd);
      break;
    case kRemoveKey:
      bitmap.add_action(BitmapAction::Kind::kRemove);
      break;
    case kClearKey:
      bitmap.add_action(BitmapAction::Kind::kClear);
      break;
    case kEnableKey:
      bitmap.add_action(BitmapAction::Kind::kEnable);
      break;
    case kDisableKey:
      bitmap.add_action(BitmapAction::Kind::kDisable);
      break;
    case kMergeKey:
      bitmap.add_action(BitmapAction::Kind::kMerge, value);
      break;
    case 'b':
      bitmap.source_file = value;
      break;
    case 'F':
      bitmap.source_format = value;
      break;
    case 'g': {
      ASSIGN_OR_RETURN(bitmap.request.granularity, parse_size_arg("granularity", value));
      break;
    }
  }
  return ok();
}

Result<void> check_combination(const BitmapArguments& bitmap, size_t operands) {
  const auto refuse = [](const char* text) { return Error(EINVAL, text); };
  if (bitmap.request.actions.empty()) {
    return refuse("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
  }
  if (bitmap.request.granularity != 0 && !bitmap.has_action(BitmapAction::Kind::kAdd)) {
    return refuse("granularity only supported with --add");
  }
  if (!bitmap.source_format.empty() && !bitmap.source_file) {
    return refuse("-F only supported with -b");
  }
  if (bitmap.source_file && !bitmap.has_action(BitmapAction::Kind::kMerge)) {
    return refuse("Merge bitmap source file only supported with --merge");
  }
  if (operands != 2) return refuse("Expecting filename and bitmap name");
  return ok();
}

Result<int> run_bitmap(const Report& report, std::span<char*> argv) {
  BitmapArguments bitmap;
  ASSIGN_OR_RETURN(
      Arguments arguments,
      parse_arguments(report, kOptions, argv, [&bitmap](int key, const std::string& value) {
        return accept_option(bitmap, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kBitmapCommand);
    return 0;
  }
  RETURN_IF_ERROR(check_combination(bitmap, arguments.operands.size()));
  BitmapRequest& request = bitmap.request;
  ASSIGN_OR_RETURN(request.image, bitmap.open.request(std::move(arguments.operands[0])));
  request.image.writable = true;
  request.image.with_backing = false;
  request.name = std::move(arguments.operands[1]);
  if (bitmap.source_file) {
    request.source.emplace();
    request.source->name = std::move(*bitmap.source_file);
    request.source->format = bitmap.source_format;
    request.source->with_backing = false;
  }
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  RETURN_IF_ERROR(runtime.run(change_bitmap(runtime.storage(), request, messages)));
  return 0;
}

}  // namespace

const Command kBitmapCommand = {
    "bitmap", "Change a persistent bitmap of an image",
    "(--add | --remove | --clear | --enable | --disable | --merge SOURCE)...\n"
    "      [-b FILE [-F FMT]] [-g SIZE] [-f FMT | --image-opts] [--object OBJDEF] FILE BITMAP",
    kOptions, run_bitmap};

}  // namespace imgconv
