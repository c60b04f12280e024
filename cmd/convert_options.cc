#include "cmd/convert_options.h"

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <utility>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/size_arg.h"
#include "formats/options.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {

namespace {

enum ConvertKey : int {
  kTargetImageOptsKey = kFirstCommandKey,
  kTargetIsZeroKey,
  kSalvageKey,
  kBitmapsKey,
  kSkipBrokenBitmapsKey,
  kAioKey,
  kThreadsKey,
  kReplaceKey,
  kNoSyncKey,
  kDigestKey,
  kVerifyKey,
};

constexpr OptionDef kOptions[] = {
    {'f', {"source-format"}, "FMT", "format of the sources (default: probe)"},
    {kImageOptsKey,
     {"image-opts", "source-image-opts"},
     nullptr,
     "sources are option strings, such as driver=qcow2,file.filename=PATH; excludes -f",
     1},
    {'l',
     {"snapshot", "source-snapshot"},
     "SNAP",
     "read the internal snapshot with this ID or name"},
    {'T', {"source-cache"}, "CACHE", "how to read the sources (default: writeback)"},
    {'O', {"output-format", "target-format"}, "FMT", "format of the target (default: raw)"},
    {kTargetImageOptsKey,
     {"target-image-opts"},
     nullptr,
     "the target is an option string; needs -n",
     1},
    {'o', {"options", "target-options"}, "OPTS", "creation options; '-o help' lists them"},
    {'t',
     {"output-cache", "target-cache"},
     "CACHE",
     "how to write the target (default: writeback, with one sync at the end)"},
    {kReplaceKey,
     {"replace"},
     nullptr,
     "put the complete target in the place of an existing file, instead of filling that",
     1},
    {kNoSyncKey,
     {"no-sync"},
     nullptr,
     "do not wait until the target is on the disk (implied by -t unsafe)",
     1},
    {kDigestKey,
     {"digest"},
     "[guest:|file:]ALG",
     "print a digest (sha256, sha512, blake2b512, ...) of the disk, or of the target's file; may "
     "be "
     "given several times",
     0,
     true},
    {kVerifyKey,
     {"verify"},
     nullptr,
     "read the target back from the device and compare it with what was written",
     0,
     true},
    {kOutputKey, {"output"}, "human|json", "how to print digests (default: human)", 0, true},
    {'c', {"compress"}, nullptr, "write compressed clusters"},
    {'B', {"backing"}, "FILE", "make the target an overlay of FILE and copy only the top layer"},
    {'F', {"backing-format"}, "FMT", "format of the target's backing file"},
    {'n', {"no-create"}, nullptr, "write into the existing target"},
    {kTargetIsZeroKey,
     {"target-is-zero"},
     nullptr,
     "the existing target is all zeros; needs -n",
     1},
    {'S',
     {"sparse-size"},
     "SIZE",
     "shortest run of zeros that becomes a hole (default: 4k; 0: none)"},
    {'m', {"parallel"}, "N", "requests in flight, 1 to 16 (default: 8)"},
    {'W', {"oob-writes"}, nullptr, "allow writes out of order"},
    {'C', {"copy-range-offloading"}, nullptr, "let the system copy where it can"},
    {'r', {"rate"}, "SIZE", "write at most so many bytes per second"},
    {kSalvageKey, {"salvage"}, nullptr, "replace what cannot be read by zeros and go on", 1},
    {kBitmapsKey, {"bitmaps"}, nullptr, "copy the persistent bitmaps, too", 1},
    {kSkipBrokenBitmapsKey, {"skip-broken-bitmaps"}, nullptr, "leave inconsistent bitmaps out", 1},
    {'p', {"progress"}, nullptr, "show progress"},
    {'q', {"quiet"}, nullptr, "print errors only"},
    {'v', {"verbose"}, nullptr, "tell on stderr how the copy is done and what it did"},
    {kAioKey, {"aio"}, "auto|threads|io_uring", "how to wait for files (default: auto)"},
    {kThreadsKey, {"threads"}, "N", "threads that work at the same time, 1 to 64"},
    kForceShareOption,
    kUntrustedOption,
    kLimitOption,
    kObjectOption,
};

/// What was asked, before it is known to make sense.
struct RawArguments {
  explicit RawArguments(const Report& report) : messages(report) {}

  ConsoleMessages messages;
  ConvertArguments parsed;
  std::optional<std::string> target_format;
  bool no_sync = false;
  UntrustedOptions untrusted;
  SecretObjects objects;
  std::string output = "human";
  bool has_sparse_size = false;
};

/// A number in any base that strtol knows, or nothing.
std::optional<long> parse_count(const std::string& text) {
  if (text.empty()) return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const long count = std::strtol(text.c_str(), &end, 0);
  if (errno != 0 || *end != '\0') return std::nullopt;
  return count;
}

Result<uint64_t> parse_sparse_size(const std::string& text) {
  // Data is looked at in pieces of at most so much; a longer hole could not be seen.
  constexpr uint64_t kLargest = 16 * kMiB;
  ASSIGN_OR_RETURN(const uint64_t size, parse_size_arg("buffer size for sparse output", text));
  if (!is_aligned(size, kSectorSize) || size > kLargest) {
    return Error(
        EINVAL,
        "Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 "
        "up to 16777216. Select 0 to disable sparse detection (fully allocates output).");
  }
  return size;
}

Result<unsigned> parse_coroutines(const std::string& text) {
  const std::optional<long> count = parse_count(text);
  if (!count || *count < 1 || *count > 16) {
    return Error(EINVAL,
                 "Invalid number of coroutines. Allowed number of coroutines is between 1 and 16");
  }
  return static_cast<unsigned>(*count);
}

Result<unsigned> parse_threads(const std::string& text) {
  const std::optional<long> count = parse_count(text);
  if (!count || *count < 1 || *count > 64) {
    return Error(EINVAL,
                 "Invalid number of threads. Allowed number of threads is between 1 and 64");
  }
  return static_cast<unsigned>(*count);
}

Result<IoBackendKind> parse_aio(const std::string& text) {
  if (text == "auto") return IoBackendKind::kAuto;
  if (text == "threads") return IoBackendKind::kPool;
  if (text == "io_uring") return IoBackendKind::kUring;
  return Error(EINVAL, "Invalid aio option: " + text);
}

DigestRequest parse_digest(std::string_view text) {
  constexpr std::string_view kOfFile = "file:";
  constexpr std::string_view kOfGuest = "guest:";
  const bool of_file = text.starts_with(kOfFile);
  if (of_file) text.remove_prefix(kOfFile.size());
  if (text.starts_with(kOfGuest) && !of_file) text.remove_prefix(kOfGuest.size());
  return {std::string(text), of_file};
}

/// Options with a value.
Result<void> accept_value(RawArguments& raw, int key, const std::string& value) {
  ConvertOptions& options = raw.parsed.options;
  switch (key) {
    case 'f':
      options.source_format = value;
      break;
    case 'O':
      raw.target_format = value;
      break;
    case 'B':
      options.backing_file = value;
      break;
    case 'F':
      options.backing_format = value;
      break;
    case 't':
      raw.parsed.target_cache = value;
      break;
    case 'T':
      raw.parsed.source_cache = value;
      break;
    case 'o':
      return append_creation_options(options.target_options, value);
    case 'l': {
      ASSIGN_OR_RETURN(options.snapshot, parse_snapshot_selector(value, raw.messages));
      break;
    }
    case 'S': {
      ASSIGN_OR_RETURN(options.sparse_size, parse_sparse_size(value));
      raw.has_sparse_size = true;
      break;
    }
    case 'm': {
      ASSIGN_OR_RETURN(options.coroutines, parse_coroutines(value));
      break;
    }
    case 'r': {
      ASSIGN_OR_RETURN(options.rate_limit, parse_size_arg("rate limit", value));
      break;
    }
    case kAioKey: {
      ASSIGN_OR_RETURN(raw.parsed.runtime.backend, parse_aio(value));
      break;
    }
    case kThreadsKey: {
      ASSIGN_OR_RETURN(raw.parsed.runtime.pool_threads, parse_threads(value));
      break;
    }
    case kDigestKey:
      options.digests.push_back(parse_digest(value));
      break;
    case kOutputKey:
      raw.output = value;
      break;
    case kObjectKey:
      return raw.objects.add(value);
  }
  return ok();
}

Result<void> accept_option(RawArguments& raw, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, raw.untrusted.accept(key, value));
  if (is_taken) return ok();
  ConvertOptions& options = raw.parsed.options;
  switch (key) {
    case 'c':
      options.compress = true;
      break;
    case 'C':
      options.copy_range = true;
      break;
    case 'n':
      options.skip_create = true;
      break;
    case 'W':
      options.out_of_order = true;
      break;
    case 'U':
      options.force_share = true;
      break;
    case 'p':
      raw.parsed.progress = true;
      raw.parsed.options.counts_data = true;
      break;
    case 'q':
      raw.parsed.quiet = true;
      break;
    case 'v':
      raw.parsed.verbose = true;
      break;
    case kImageOptsKey:
      options.source_image_opts = true;
      break;
    case kTargetImageOptsKey:
      options.target_image_opts = true;
      break;
    case kTargetIsZeroKey:
      options.target_is_zero = true;
      break;
    case kSalvageKey:
      options.salvage = true;
      break;
    case kReplaceKey:
      options.replace = true;
      break;
    case kNoSyncKey:
      raw.no_sync = true;
      break;
    case kVerifyKey:
      options.verify = true;
      break;
    case kBitmapsKey:
      options.bitmaps = true;
      break;
    case kSkipBrokenBitmapsKey:
      options.skip_broken_bitmaps = true;
      break;
    default:
      return accept_value(raw, key, value);
  }
  return ok();
}

Result<void> check_combination(const RawArguments& raw) {
  const ConvertOptions& options = raw.parsed.options;
  const auto refuse = [](const char* text) { return Error(EINVAL, text); };
  if (options.skip_broken_bitmaps && !options.bitmaps) {
    return refuse("Use of --skip-broken-bitmaps requires --bitmaps");
  }
  if (options.copy_range && options.compress) {
    return refuse("Cannot enable copy offloading when -c is used");
  }
  if (options.copy_range && raw.has_sparse_size) {
    return refuse("Cannot enable copy offloading when -S is used");
  }
  if (options.copy_range && options.salvage) {
    return refuse("Cannot use copy offloading in salvaging mode");
  }
  if (options.target_image_opts && !options.skip_create) {
    return refuse("--target-image-opts requires use of -n flag");
  }
  if (options.skip_create && !options.target_options.empty()) {
    return refuse("-o has no effect when skipping image creation");
  }
  if (options.target_is_zero && !options.skip_create) {
    return refuse("--target-is-zero requires use of -n flag");
  }
  return ok();
}

}  // namespace

std::span<const OptionDef> convert_option_table() { return kOptions; }

Result<ConvertArguments> parse_convert_arguments(const Report& report, std::span<char*> argv) {
  RawArguments raw(report);
  ASSIGN_OR_RETURN(Arguments arguments, parse_arguments(report, kOptions, argv,
                                                        [&raw](int key, const std::string& value) {
                                                          return accept_option(raw, key, value);
                                                        }));
  ConvertOptions& options = raw.parsed.options;
  raw.parsed.wants_help = arguments.wants_help;
  if (arguments.wants_help) return std::move(raw.parsed);
  RETURN_IF_ERROR(check_combination(raw));
  // A target's option string names its own format.
  options.target_format = raw.target_format.value_or(options.target_image_opts ? "" : "raw");

  std::vector<std::string>& names = arguments.operands;
  if (names.size() >= 2) {
    options.target = std::move(names.back());
    names.pop_back();
    options.sources = std::move(names);
  }
  raw.parsed.wants_creation_options_help = asks_for_help(options.target_options);
  if (raw.parsed.wants_creation_options_help) return std::move(raw.parsed);
  if (options.sources.empty()) return Error(EINVAL, "Must specify image file name");
  ASSIGN_OR_RETURN(options.untrusted, raw.untrusted.request());
  ASSIGN_OR_RETURN(raw.parsed.output, parse_output_format(raw.output));
  // Who says where the holes are to be, or wants what can be saved, wants the data looked at.
  options.may_clone = !raw.has_sparse_size && !options.salvage;
  options.sync = !raw.no_sync && raw.parsed.target_cache != "unsafe";
  return std::move(raw.parsed);
}

Result<void> resolve_cache_modes(ConvertArguments& arguments) {
  ConvertOptions& options = arguments.options;
  ASSIGN_OR_RETURN(options.source_cache, parse_cache_mode("source cache", arguments.source_cache));
  if (arguments.target_cache) {
    ASSIGN_OR_RETURN(options.target_cache, parse_cache_mode("cache", *arguments.target_cache));
  }
  return check_image_opts(options.source_image_opts, options.source_format);
}

}  // namespace imgconv
