#include "cmd/option_parser.h"

#include <fmt/format.h>
#include <getopt.h>

#include <algorithm>
#include <iterator>
#include <string_view>

namespace imgconv {

namespace {

/// The table in getopt's own terms. Points into the table, owns the rest.
struct GetoptTables {
  std::string short_options;
  std::vector<option> long_options;
};

/// Calls `visit` for what every table has and for the rows of this one.
template <class Visit>
void for_each_option(std::span<const OptionDef> table, Visit visit) {
  visit(kHelpOption);
  for (const OptionDef& def : table) visit(def);
}

GetoptTables make_tables(std::span<const OptionDef> table, OperandOrder order) {
  GetoptTables tables;
  // The colon makes getopt tell a missing argument from an unknown option.
  tables.short_options = order == OperandOrder::kStopAtFirst ? "+:" : ":";
  const auto add = [&tables](const OptionDef& def) {
    const bool has_value = def.value_name != nullptr;
    if (def.key < kFirstLongOnlyKey) {
      tables.short_options += static_cast<char>(def.key);
      if (has_value) tables.short_options += ':';
    }
    for (const char* name : def.long_names) {
      if (name == nullptr) continue;
      tables.long_options.push_back(
          {name, has_value ? required_argument : no_argument, nullptr, def.key});
    }
  };
  for_each_option(table, add);
  tables.long_options.push_back({});
  return tables;
}

/// The only option of upstream's that has a long name beginning with `prefix`, or null.
const OptionDef* find_upstream_option(std::span<const OptionDef> table, std::string_view prefix) {
  const OptionDef* found = nullptr;
  bool is_ambiguous = false;
  for_each_option(table, [&](const OptionDef& def) {
    const auto names = std::span(def.long_names).first(def.upstream_names);
    const bool fits = std::any_of(names.begin(), names.end(), [prefix](const char* name) {
      return std::string_view(name).starts_with(prefix);
    });
    if (!fits) return;
    is_ambiguous = is_ambiguous || found != nullptr;
    found = &def;
  });
  return is_ambiguous ? nullptr : found;
}

/// getopt's answer for the long option that it just refused, had it known upstream's names only.
/// Takes the option's argument as getopt would.
int scan_again_as_upstream(std::span<const OptionDef> table, std::span<char*> argv) {
  const std::string_view word = argv[static_cast<size_t>(optind) - 1];
  const size_t equals = std::min(word.find('='), word.size());
  const OptionDef* const def = find_upstream_option(table, word.substr(2, equals - 2));
  if (def == nullptr) return '?';
  optarg = nullptr;
  const bool has_attached_value = equals < word.size();
  if (def->value_name == nullptr) return has_attached_value ? '?' : def->key;
  if (has_attached_value) {
    optarg = argv[static_cast<size_t>(optind) - 1] + equals + 1;
  } else if (static_cast<size_t>(optind) < argv.size()) {
    optarg = argv[static_cast<size_t>(optind++)];
  } else {
    return ':';
  }
  return def->key;
}

}  // namespace

bool is_offered(const Report& report, const OptionDef& option) {
  return !option.imgconv_only || report.program_name() != "qemu-img";
}

Result<Arguments> parse_arguments(const Report& report, std::span<const OptionDef> all,
                                  std::span<char*> argv, const OptionHandler& handle_option,
                                  OperandOrder order) {
  std::vector<OptionDef> table;
  std::copy_if(all.begin(), all.end(), std::back_inserter(table),
               [&report](const OptionDef& option) { return is_offered(report, option); });
  const GetoptTables tables = make_tables(table, order);
  const int argc = static_cast<int>(argv.size());
  Arguments arguments;
  opterr = 0;  // The messages are ours.
  optind = 0;  // Zero, not one: glibc then forgets what a former scan left.
  for (;;) {
    int key = getopt_long(argc, argv.data(), tables.short_options.c_str(),
                          tables.long_options.data(), nullptr);
    if (key == -1) break;
    // Zero in optopt: a long option that is unknown or ambiguous.
    if (key == '?' && optopt == 0) key = scan_again_as_upstream(table, argv);
    // Both messages name the last word that was scanned, which for a letter inside a bundle is
    // the word before the bundle. That is qemu-img's text, odd as it is.
    if (key == '?') {
      return report.usage_error(fmt::format("unrecognized option '{}'", argv[optind - 1]));
    }
    if (key == ':') {
      return report.usage_error(fmt::format("missing argument for option '{}'", argv[optind - 1]));
    }
    if (key == kHelpOption.key) {
      arguments.wants_help = true;
      return arguments;
    }
    auto handled = handle_option(key, optarg != nullptr ? optarg : "");
    if (!handled) return std::move(handled).error();
  }
  for (int i = optind; i < argc; ++i) arguments.operands.emplace_back(argv[i]);
  return arguments;
}

}  // namespace imgconv
