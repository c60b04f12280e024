#include "cmd/creation_options_help.h"

#include <algorithm>
#include <cerrno>

#include "cmd/output.h"
#include "formats/driver.h"
#include "formats/format_names.h"
#include "formats/options.h"
#include "formats/registry.h"

namespace imgconv {

namespace {

/// What the file below any format takes.
OptionList file_options() {
  return {
      {"extent_size_hint",
       OptionType::kSize,
       "Extent size hint for the image file, 0 to disable",
       {}},
      {"nocow", OptionType::kBool, "Turn off copy-on-write (valid only on btrfs)", {}},
      {"preallocation",
       OptionType::kString,
       "Preallocation mode (allowed values: off, falloc, full)",
       {}},
      {"size", OptionType::kSize, "Virtual disk size", {}},
  };
}

void add_missing(OptionList& list, const OptionList& more) {
  for (const OptionSpec& spec : more) {
    const bool is_known = std::any_of(list.begin(), list.end(), [&spec](const OptionSpec& known) {
      return known.name == spec.name;
    });
    if (!is_known) list.push_back(spec);
  }
}

/// For raw images the file's options are part of the driver's list here; without a file name they
/// are not shown, as the file might not be a local one.
OptionList options_of_format_alone(const BlockDriver& driver) {
  OptionList list = driver.create_options();
  const OptionList below = file_options();
  std::erase_if(list, [&](const OptionSpec& spec) {
    const bool is_file_level = std::any_of(
        below.begin(), below.end(), [&](const OptionSpec& file) { return file.name == spec.name; });
    if (!is_file_level || spec.name == "size") return false;
    return driver.name() == "raw" || spec.name != "preallocation";
  });
  return list;
}

}  // namespace

Result<int> print_creation_options(const std::string& format, bool has_target_name) {
  const BlockDriver* driver = find_driver(format);
  if (driver == nullptr) return no_creation(format);
  OptionList list = options_of_format_alone(*driver);
  if (has_target_name) {
    add_missing(list, file_options());
    print_out("Supported options:\n");
  } else {
    print_out("Supported {} options:\n", format);
  }
  for (const std::string& line : option_help(list)) print_out("{}\n", line);
  if (!has_target_name) {
    print_out(
        "\nThe protocol level may support further options.\n"
        "Specify the target filename to include those options.\n");
  }
  return 0;
}

}  // namespace imgconv
