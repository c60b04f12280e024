#include "cmd/reproduce_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <string_view>
#include <utility>

#include "engine/image_name.h"
#include "engine/open_image.h"
#include "loop/history/handoff.h"
#include "loop/try.h"

namespace imgconv {
namespace {

enum Key {
  kProtocolKey = kFirstCommandKey,
  kMemoryKey,
  kIterationsKey,
  kTimeoutKey,
  kSeedKey,
  kPinKey,
  kLevelKey,
  kColdStoresKey,
  kMaxDelayKey,
  kRequestsKey,
};

constexpr OptionDef kOptions[] = {
    {kProtocolKey,
     {"protocol"},
     "NAME",
     "wake-up protocol of the case file, or all (default: current)"},
    {kMemoryKey,
     {"memory"},
     "native|armv8",
     "this machine, or what ARMv8 allows for LL/SC atomics (default: native)"},
    {kLevelKey,
     {"level"},
     "convert|handoff",
     "run the converter, or the bare hand-off (default: convert)"},
    {kIterationsKey,
     {"iterations"},
     "N",
     "how many converts or hand-offs (default: 500 converts, 1000000 hand-offs)"},
    {kTimeoutKey,
     {"timeout"},
     "S",
     "convert level: seconds without progress that count as a hang (default: 60)"},
    {kSeedKey, {"seed"}, "S", "of all that is random (default: another one each time)"},
    {kPinKey, {"pin"}, "LOOP,POOL", "processors for the loop and for the pool's threads"},
    {kColdStoresKey,
     {"cold-stores"},
     "N",
     "stores to cold lines in front of the loop's racing stores, at most 1000 (default: 0)"},
    {kMaxDelayKey,
     {"max-delay"},
     "N",
     "hand-off level: random delays below N steps, each less than 1 ns (default: 2048)"},
    {kRequestsKey,
     {"requests"},
     "N",
     "hand-off level: completions in a hand-off, 1 to 16 (default: 2)"},
    kOutputOption,
};

template <class Number>
Result<Number> parse_number(const char* what, std::string_view text, Number least, Number largest) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < least ||
      number > largest) {
    return Error(EINVAL, fmt::format("Invalid {} '{}': a number from {} to {} is needed", what,
                                     text, least, largest));
  }
  return number;
}

Result<history::Pinning> parse_pinning(std::string_view text) {
  // The kernel's own limit, CPU_SETSIZE.
  constexpr unsigned kMaxCpu = 1023;
  const size_t comma = std::min(text.find(','), text.size());
  const std::string_view rest = text.substr(std::min(comma + 1, text.size()));
  ASSIGN_OR_RETURN(const unsigned loop_cpu,
                   parse_number<unsigned>("processor", text.substr(0, comma), 0, kMaxCpu));
  ASSIGN_OR_RETURN(const unsigned pool_cpu, parse_number<unsigned>("processor", rest, 0, kMaxCpu));
  return history::Pinning{loop_cpu, pool_cpu};
}

Result<history::Memory> parse_memory(const std::string& text) {
  if (text == "native") return history::Memory::kNative;
  if (text == "armv8") return history::Memory::kArmv8;
  return Error(EINVAL, fmt::format("Invalid memory '{}': it is native or armv8", text));
}

Result<ReproduceLevel> parse_level(const std::string& text) {
  if (text == "convert") return ReproduceLevel::kConvert;
  if (text == "handoff") return ReproduceLevel::kHandoff;
  return Error(EINVAL, fmt::format("Invalid level '{}': it is convert or handoff", text));
}

Result<void> accept_option(ReproduceOptions& options, int key, const std::string& value) {
  switch (key) {
    case kProtocolKey:
      options.protocol = value;
      break;
    case kMemoryKey: {
      ASSIGN_OR_RETURN(options.memory, parse_memory(value));
      break;
    }
    case kLevelKey: {
      ASSIGN_OR_RETURN(options.level, parse_level(value));
      break;
    }
    case kIterationsKey: {
      constexpr uint64_t kMaxIterations = 1'000'000'000'000;
      ASSIGN_OR_RETURN(options.iterations,
                       parse_number<uint64_t>("number of iterations", value, 1, kMaxIterations));
      break;
    }
    case kTimeoutKey: {
      constexpr int64_t kOneDay = 86400;
      ASSIGN_OR_RETURN(options.timeout_s, parse_number<int64_t>("timeout", value, 1, kOneDay));
      break;
    }
    case kSeedKey: {
      ASSIGN_OR_RETURN(options.seed, parse_number<uint64_t>("seed", value, 0,
                                                            std::numeric_limits<uint64_t>::max()));
      break;
    }
    case kPinKey: {
      ASSIGN_OR_RETURN(options.pinning, parse_pinning(value));
      break;
    }
    case kColdStoresKey: {
      ASSIGN_OR_RETURN(options.cold_stores, parse_number<unsigned>("number", value, 0, 1000));
      break;
    }
    case kMaxDelayKey: {
      ASSIGN_OR_RETURN(options.max_delay, parse_number<unsigned>("delay", value, 0, 1'000'000'000));
      break;
    }
    case kRequestsKey: {
      ASSIGN_OR_RETURN(options.requests, parse_number<unsigned>("number of requests", value, 1,
                                                                history::HandoffOptions::kMaxJobs));
      break;
    }
    case kOutputKey: {
      ASSIGN_OR_RETURN(options.output, parse_output_format(value));
      break;
    }
  }
  return ok();
}

Result<void> check_protocol(const std::string& protocol) {
  if (protocol == "all") return ok();
  const std::vector<std::string_view> known = history::loop_protocol_ids();
  if (std::find(known.begin(), known.end(), protocol) != known.end()) return ok();
  return Error(EINVAL, fmt::format("Unknown protocol '{}'", protocol))
      .with_hint(fmt::format("It is one of: {}, all", fmt::join(known, ", ")));
}

/// Options that would do nothing, in words; empty if there are none. `given` are the keys of those
/// that were given.
std::string find_useless_option(const ReproduceOptions& options, const std::set<int>& given) {
  const bool is_handoff = options.level == ReproduceLevel::kHandoff;
  if (is_handoff && given.contains(kTimeoutKey)) {
    return "The hand-off level knows a lost wake-up from a slow one and has no --timeout";
  }
  if (!is_handoff && given.contains(kMaxDelayKey)) return "--max-delay is of the hand-off level";
  if (!is_handoff && given.contains(kRequestsKey)) return "--requests is of the hand-off level";
  if (options.protocol == "all" && given.contains(kMemoryKey)) {
    return "--protocol all goes through all memories and has no --memory";
  }
  return "";
}

/// A relative backing file is looked for beside the target, and that goes elsewhere here.
Result<void> resolve_backing(ConvertOptions& options) {
  if (!options.backing_file || options.backing_file->empty()) return ok();
  ASSIGN_OR_RETURN(std::string name, resolve_backing_name(options.target, *options.backing_file));
  if (!has_protocol(name)) name = std::filesystem::absolute(name);
  options.backing_file = std::move(name);
  return ok();
}

/// The command line of a convert that will be run many times, with a target of our own. Options
/// that would write to a file of the user's all the same are refused.
Result<ConvertArguments> parse_convert(const Report& report, std::span<char*> argv) {
  ASSIGN_OR_RETURN(ConvertArguments convert, parse_convert_arguments(report, argv));
  RETURN_IF_ERROR(resolve_cache_modes(convert));
  if (convert.wants_help || convert.wants_creation_options_help) {
    return report.usage_error("The arguments behind '--' ask for help and convert nothing");
  }
  const ConvertOptions& options = convert.options;
  if (options.skip_create || options.target_image_opts) {
    return report.usage_error("'reproduce' writes to a target of its own and cannot use -n");
  }
  if (("," + options.target_options).find(",data_file=") != std::string::npos) {
    return report.usage_error("'reproduce' writes to a target of its own and cannot use data_file");
  }
  RETURN_IF_ERROR(resolve_backing(convert.options));
  return convert;
}

}  // namespace

const char* name(history::Memory memory) {
  return memory == history::Memory::kNative ? "native" : "armv8";
}

std::span<const OptionDef> reproduce_option_table() { return kOptions; }

Result<ReproduceOptions> parse_reproduce_arguments(const Report& report, std::span<char*> argv) {
  const auto separator = std::find_if(
      argv.begin(), argv.end(), [](const char* word) { return std::string_view(word) == "--"; });
  ReproduceOptions options;
  options.seed = std::random_device()();
  std::set<int> given;
  ASSIGN_OR_RETURN(const Arguments arguments,
                   parse_arguments(report, kOptions, {argv.begin(), separator},
                                   [&options, &given](int key, const std::string& value) {
                                     given.insert(key);
                                     return accept_option(options, key, value);
                                   }));
  options.wants_help = arguments.wants_help;
  if (options.wants_help) return options;
  if (!arguments.operands.empty()) {
    return report.usage_error(fmt::format(
        "Unexpected argument '{}'; those of the convert follow '--'", arguments.operands.front()));
  }
  RETURN_IF_ERROR(check_protocol(options.protocol));
  if (const std::string useless = find_useless_option(options, given); !useless.empty()) {
    return report.usage_error(useless);
  }
  if (separator != argv.end()) {
    if (options.level == ReproduceLevel::kHandoff) {
      return report.usage_error("The hand-off level has no convert that could take arguments");
    }
    // The separator stands where the command's name would: getopt does not look at it.
    ASSIGN_OR_RETURN(options.convert, parse_convert(report, {separator, argv.end()}));
  }
  return options;
}

}  // namespace imgconv
