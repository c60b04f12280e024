// Option parsing by a table per command: getopt's rules (permutation, bundling, prefixes of long
// names) with qemu-img's messages.
//
// getopt_long works on global state and permutes argv, so one command line is parsed at a time, on
// the main thread. A table is constant data that help texts are made of, too.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cmd/report.h"
#include "loop/result.h"

namespace imgconv {

struct OptionDef {
  /// The short option's letter, or a number from kFirstLongOnlyKey on if it has none.
  int key = 0;
  /// Long names without dashes, all meaning the same; unused places are null.
  std::array<const char*, 3> long_names = {};
  /// Name of the argument in the help text; null when it takes none.
  const char* value_name = nullptr;
  const char* help = "";
  /// How many of long_names, from the first on, upstream's program has. A prefix that fits only one
  /// of upstream's options is that one, whatever else was added.
  size_t upstream_names = 0;
  /// Not there when the program is called qemu-img.
  bool imgconv_only = false;
};

/// Whether the program, as it is called, has the option.
bool is_offered(const Report& report, const OptionDef& option);

inline constexpr int kFirstLongOnlyKey = 256;
/// Every table has it without listing it.
inline constexpr OptionDef kHelpOption = {'h', {"help"}, nullptr, "print this help and exit", 1};

struct Arguments {
  /// -h came before anything that was wrong: print help, do nothing else.
  bool wants_help = false;
  /// What is no option, in the order given.
  std::vector<std::string> operands;
};

/// Called for each option in the order given; an error ends the parsing.
using OptionHandler = std::function<Result<void>(int key, const std::string& value)>;

enum class OperandOrder {
  kPermute,      ///< Options may follow operands.
  kStopAtFirst,  ///< The first operand ends the options (global options before the command).
};

/// argv[0] is the command's name and is not looked at. `values` of options without argument are
/// empty. Errors: "unrecognized option '-Z'", "missing argument for option '-f'", with the hint.
Result<Arguments> parse_arguments(const Report& report, std::span<const OptionDef> table,
                                  std::span<char*> argv, const OptionHandler& handle_option,
                                  OperandOrder order = OperandOrder::kPermute);

}  // namespace imgconv
