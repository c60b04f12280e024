#include "cmd/resize_command.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "engine/open_image.h"
#include "engine/resize_image.h"
#include "formats/options.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

enum Key : int { kPreallocationKey = kFirstCommandKey, kShrinkKey };

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "print errors only"},
    {'f', {"format"}, "FMT", "format of the image (default: probe)"},
    kImageOptsOption,
    {kPreallocationKey,
     {"preallocation"},
     "MODE",
     "space for what is added: off, metadata, falloc or full (default: off)",
     1},
    {kShrinkKey, {"shrink"}, nullptr, "allow a smaller disk; what is behind its end is lost", 1},
    kObjectOption,
};

struct ResizeArguments {
  OpenOptions open;
  Preallocation preallocation = Preallocation::kOff;
  bool shrink = false;
  bool quiet = false;
};

Result<void> accept_option(ResizeArguments& resize, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, resize.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'q':
      resize.quiet = true;
      break;
    case kShrinkKey:
      resize.shrink = true;
      break;
    case kPreallocationKey: {
      const std::optional<Preallocation> mode = find_preallocation(value);
      if (!mode) return Error(EINVAL, fmt::format("Invalid preallocation mode '{}'", value));
      resize.preallocation = *mode;
      break;
    }
  }
  return ok();
}

Result<SizeChange> parse_size_change(std::string_view text) {
  SizeChange change;
  if (text.starts_with('+')) change.kind = SizeChange::Kind::kGrow;
  if (text.starts_with('-')) change.kind = SizeChange::Kind::kShrink;
  if (change.kind != SizeChange::Kind::kAbsolute) text.remove_prefix(1);
  ASSIGN_OR_RETURN(change.bytes, parse_option_size("size", text));
  return change;
}

Result<void> check_change(const Report& report, const ResizeArguments& resize, uint64_t old_size,
                          uint64_t new_size) {
  if (new_size <= old_size && resize.preallocation != Preallocation::kOff) {
    return Error(EINVAL, "Preallocation can only be used for growing images");
  }
  if (new_size >= old_size || resize.shrink) return ok();
  report.error("Use the --shrink option to perform a shrink operation.");
  report.warning(
      "Shrinking an image will delete all data beyond the shrunken image's end. Before performing "
      "such an operation, make sure there is no important data there.");
  return Error(EINVAL, "");
}

Result<int> resize_file(const Report& report, const ResizeArguments& resize,
                        const std::string& name, const SizeChange& change) {
  Runtime runtime(RuntimeOptions{});
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(ImageRequest request, resize.open.request(name));
  request.writable = true;
  request.may_resize = true;
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  const uint64_t old_size = chain->virtual_size();
  ASSIGN_OR_RETURN(const uint64_t new_size, apply_size_change(old_size, change));
  const Result<void> allowed = check_change(report, resize, old_size, new_size);
  if (!allowed && allowed.error().text().empty()) return 1;
  RETURN_IF_ERROR(allowed);
  const Result<void> resized = runtime.run(resize_image(*chain, new_size, resize.preallocation));
  // Also after a failure: bitmaps may have been marked as in use.
  const Result<void> closed = runtime.run(chain->close());
  RETURN_IF_ERROR(resized);
  RETURN_IF_ERROR(closed);
  if (!resize.quiet) print_out("Image resized.\n");
  return 0;
}

bool looks_like_size(std::string_view word) {
  if (word.starts_with('+') || word.starts_with('-')) word.remove_prefix(1);
  return !word.empty() && word.front() >= '0' && word.front() <= '9';
}

/// Takes the size out of the words. It may begin with a minus sign, so getopt must not see it: the
/// last word, unless options stand behind it, as Debian's build allows.
std::string take_size(std::vector<char*>& words) {
  size_t place = words.size() - 1;
  if (place == 0 || (place == 1 && words[1][0] == '-')) return {};
  if (!looks_like_size(words[place])) {
    for (size_t i = place; i > 1; --i) {
      if (!looks_like_size(words[i])) continue;
      place = i;
      break;
    }
  }
  std::string size = words[place];
  words.erase(words.begin() + static_cast<ptrdiff_t>(place));
  return size;
}

Result<int> run_resize(const Report& report, std::span<char*> argv) {
  std::vector<char*> words(argv.begin(), argv.end());
  const std::string size = take_size(words);
  ResizeArguments resize;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, words, [&resize](int key, const std::string& value) {
        return accept_option(resize, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kResizeCommand);
    return 0;
  }
  if (arguments.operands.empty() && words.size() < 2)
    return report.usage_error("Not enough arguments");
  if (arguments.operands.size() != 1) {
    return report.usage_error("Expecting image file name and size");
  }
  ASSIGN_OR_RETURN(const SizeChange change, parse_size_change(size));
  return resize_file(report, resize, arguments.operands.front(), change);
}

}  // namespace

const Command kResizeCommand = {
    "resize", "Make the disk of an image larger or smaller",
    "[-q] [-f FMT | --image-opts] [--preallocation=MODE] [--shrink] [--object OBJDEF] FILE "
    "[+|-]SIZE",
    kOptions, run_resize};

}  // namespace imgconv
