// The command line of `convert` as ConvertOptions: option table and the checks that need no image.
// Pure functions.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "cmd/common_options.h"
#include "cmd/option_parser.h"
#include "cmd/report.h"
#include "engine/convert.h"
#include "loop/result.h"
#include "loop/runtime.h"

namespace imgconv {

struct ConvertArguments {
  /// All but the cache modes.
  ConvertOptions options;
  std::string source_cache = "writeback";
  /// Not given: as unsafe, but for the sync at the end.
  std::optional<std::string> target_cache;
  RuntimeOptions runtime;
  bool progress = false;
  bool quiet = false;
  bool verbose = false;
  OutputFormat output = OutputFormat::kHuman;
  bool wants_help = false;
  /// -o help: list the target format's options and do nothing else.
  bool wants_creation_options_help = false;
};

std::span<const OptionDef> convert_option_table();

/// Errors in the order in which qemu-img finds them (CLI.md 2.1).
Result<ConvertArguments> parse_convert_arguments(const Report& report, std::span<char*> argv);
/// The rest of them, which are found when the line of -p has begun.
Result<void> resolve_cache_modes(ConvertArguments& arguments);

}  // namespace imgconv
