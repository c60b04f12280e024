// The command line of `reproduce` as values. Pure functions but for the limits of the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "cmd/common_options.h"
#include "cmd/convert_options.h"
#include "cmd/option_parser.h"
#include "cmd/report.h"
#include "loop/history/loop_protocol.h"
#include "loop/history/pinning.h"
#include "loop/result.h"

namespace imgconv {

/// Exit code beside 0, no hang, and 1, misuse or failure.
inline constexpr int kHangSeen = 3;

enum class ReproduceLevel : uint8_t { kConvert, kHandoff };

struct ReproduceOptions {
  /// An id of the case file, or "all".
  std::string protocol = "current";
  history::Memory memory = history::Memory::kNative;
  ReproduceLevel level = ReproduceLevel::kConvert;
  /// Not set: what suits the level.
  std::optional<uint64_t> iterations;
  /// An iteration that makes no progress for so long is given up. Convert level only.
  int64_t timeout_s = 60;
  uint64_t seed = 0;
  std::optional<history::Pinning> pinning;
  /// What widens the window (loop/history/handoff.h); the last two at the hand-off level only.
  unsigned cold_stores = 0;
  std::optional<unsigned> max_delay;
  std::optional<unsigned> requests;
  OutputFormat output = OutputFormat::kHuman;
  bool wants_help = false;
  /// What stands behind "--". Not set: an image is made.
  std::optional<ConvertArguments> convert;
};

/// As on the command line.
const char* name(history::Memory memory);

std::span<const OptionDef> reproduce_option_table();

Result<ReproduceOptions> parse_reproduce_arguments(const Report& report, std::span<char*> argv);

}  // namespace imgconv
