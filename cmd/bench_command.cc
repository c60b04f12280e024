#include "cmd/bench_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>

#include "cmd/common_options.h"
#include "cmd/console_messages.h"
#include "cmd/help.h"
#include "cmd/output.h"
#include "cmd/size_arg.h"
#include "engine/bench.h"
#include "engine/open_image.h"
#include "loop/runtime.h"
#include "loop/try.h"

namespace imgconv {

namespace {

enum BenchKey : int { kFlushIntervalKey = kFirstCommandKey, kNoDrainKey, kPatternKey };

constexpr OptionDef kOptions[] = {
    {'q', {"quiet"}, nullptr, "accepted; the result is what was asked for"},
    {'f', {"format"}, "FMT", "format of FILE (default: probe)"},
    {'t', {"cache"}, "CACHE", "how to open FILE (default: writeback)"},
    {'c', {"count"}, "N", "requests to send (default: 75000)"},
    {'d', {"depth"}, "N", "requests in flight (default: 64)"},
    {'o', {"offset"}, "OFFSET", "where the first request goes (default: 0)"},
    {'s', {"buffer-size"}, "SIZE", "bytes of a request (default: 4096)"},
    {'S', {"step-size"}, "SIZE", "from one request to the next (default: that of a request)"},
    {'i', {"aio"}, "threads|native|io_uring", "how to wait for files (default: chosen by -t)"},
    {'n', {"native"}, nullptr, "the same as -i native"},
    {'w', {"write"}, nullptr, "write instead of reading; destroys what is there"},
    {kPatternKey, {"pattern"}, "BYTE", "what to write (default: 0)", 1},
    {kFlushIntervalKey, {"flush-interval"}, "N", "flush after every N writes", 1},
    {kNoDrainKey, {"no-drain"}, nullptr, "do not wait for other requests before a flush", 1},
    kImageOptsOption,
    kForceShareOption,
};

enum class AioMode : uint8_t { kDefault, kThreads, kNative, kUring };

struct BenchArguments {
  OpenOptions open;
  BenchOptions options;
  AioMode aio = AioMode::kDefault;
};

constexpr uint64_t kLargestInt = std::numeric_limits<int32_t>::max();

/// A number without suffix.
Result<uint32_t> parse_number(const char* what, const std::string& text, uint64_t smallest,
                              uint64_t largest) {
  char* end = nullptr;
  errno = 0;
  const unsigned long long number = std::strtoull(text.c_str(), &end, 0);
  const bool is_number = !text.empty() && text.front() >= '0' && text.front() <= '9';
  if (!is_number || *end != '\0' || errno != 0 || number < smallest || number > largest) {
    return Error(EINVAL, fmt::format("Invalid {} specified", what));
  }
  return static_cast<uint32_t>(number);
}

Result<AioMode> parse_aio(const std::string& text) {
  if (text == "threads") return AioMode::kThreads;
  if (text == "native") return AioMode::kNative;
  if (text == "io_uring") return AioMode::kUring;
  return Error(EINVAL, fmt::format("Invalid aio option: {}", text));
}

Result<void> accept_request_option(BenchOptions& options, int key, const std::string& value) {
  constexpr SizeLimits kRequestLimits{1, kLargestInt};
  constexpr SizeLimits kStepLimits{0, kLargestInt};
  switch (key) {
    case 'c': {
      ASSIGN_OR_RETURN(options.count, parse_number("request count", value, 1, kLargestInt));
      break;
    }
    case 'd': {
      ASSIGN_OR_RETURN(options.depth, parse_number("queue depth", value, 1, kLargestInt));
      break;
    }
    case 'o': {
      ASSIGN_OR_RETURN(options.offset, parse_size_arg("offset", value));
      break;
    }
    case 's': {
      ASSIGN_OR_RETURN(options.request_size, parse_size_arg("buffer size", value, kRequestLimits));
      break;
    }
    case 'S': {
      ASSIGN_OR_RETURN(options.step, parse_size_arg("step_size", value, kStepLimits));
      break;
    }
    case 'w':
      options.is_write = true;
      break;
    case kPatternKey: {
      ASSIGN_OR_RETURN(const uint32_t byte, parse_number("pattern byte", value, 0, 0xff));
      options.pattern = static_cast<uint8_t>(byte);
      break;
    }
    case kFlushIntervalKey: {
      ASSIGN_OR_RETURN(options.flush_interval,
                       parse_number("flush interval", value, 0, kLargestInt));
      break;
    }
    case kNoDrainKey:
      options.drains_before_flush = false;
      break;
  }
  return ok();
}

Result<void> accept_option(BenchArguments& bench, int key, const std::string& value) {
  ASSIGN_OR_RETURN(const bool is_taken, bench.open.accept(key, value));
  if (is_taken) return ok();
  switch (key) {
    case 'i': {
      ASSIGN_OR_RETURN(bench.aio, parse_aio(value));
      break;
    }
    case 'n':
      bench.aio = AioMode::kNative;
      break;
    case 't': {
      const Result<CacheMode> mode = parse_cache_mode("cache", value);
      if (!mode) return Error(EINVAL, "Invalid cache mode");
      bench.open.cache = *mode;
      break;
    }
    default:
      return accept_request_option(bench.options, key, value);
  }
  return ok();
}

Result<RuntimeOptions> choose_backend(const BenchArguments& arguments, const std::string& name) {
  RuntimeOptions options;
  switch (arguments.aio) {
    case AioMode::kDefault:
      break;
    case AioMode::kThreads:
      options.backend = IoBackendKind::kPool;
      break;
    case AioMode::kNative: {
      const CacheMode cache = arguments.open.cache;
      if (cache != CacheMode::kNone && cache != CacheMode::kDirectsync) {
        return Error(EINVAL, fmt::format("Could not open '{}': aio=native was specified, but it "
                                         "requires cache.direct=on, which was not specified.",
                                         name));
      }
      options.backend = IoBackendKind::kUring;
      break;
    }
    case AioMode::kUring:
      options.backend = IoBackendKind::kUring;
      break;
  }
  return options;
}

void announce(const BenchOptions& options) {
  print_out(
      "Sending {} {} requests, {} bytes each, {} in parallel (starting at offset {}, step size "
      "{})\n",
      options.count, options.is_write ? "write" : "read", options.request_size, options.depth,
      options.offset, options.step_size());
  if (options.flush_interval != 0) {
    print_out("Sending flush every {} requests\n", options.flush_interval);
  }
  std::fflush(stdout);
}

Result<int> bench_image(const Report& report, const BenchArguments& arguments,
                        const std::string& name) {
  ASSIGN_OR_RETURN(ImageRequest request, arguments.open.request(name));
  request.writable = arguments.options.is_write;
  ASSIGN_OR_RETURN(const RuntimeOptions backend, choose_backend(arguments, name));
  Runtime runtime(backend);
  ConsoleMessages messages(report);
  ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                   runtime.run(open_image(runtime.storage(), request, messages)));
  announce(arguments.options);
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  Result<void> done = runtime.run(bench(*chain, arguments.options, runtime.storage().executor()));
  const std::chrono::duration<double> seconds = Clock::now() - begin;
  if (done) print_out("Run completed in {:.3f} seconds.\n", seconds.count());
  const Result<void> closed = runtime.run(chain->close());
  if (!done) return std::move(done).error();
  if (!closed) return Error(closed.error());
  return 0;
}

Result<int> run_bench(const Report& report, std::span<char*> argv) {
  BenchArguments bench;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&bench](int key, const std::string& value) {
        return accept_option(bench, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kBenchCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const std::string name, single_image_name(report, arguments));
  const BenchOptions& options = bench.options;
  if (!options.is_write && options.flush_interval != 0) {
    return Error(EINVAL, "--flush-interval is only available in write tests");
  }
  if (options.flush_interval != 0 && options.flush_interval < options.depth) {
    return Error(EINVAL, "Flush interval can't be smaller than depth");
  }
  return bench_image(report, bench, name);
}

}  // namespace

const Command kBenchCommand = {
    "bench", "Measure reading from or writing to an image",
    "[-f FMT] [-t CACHE] [-c N] [-d N] [-o OFFSET] [-s SIZE] [-S SIZE] [-i AIO] [-n] [-w "
    "[--pattern BYTE] [--flush-interval N [--no-drain]]] [--image-opts] [-U] FILE",
    kOptions, run_bench};

}  // namespace imgconv
