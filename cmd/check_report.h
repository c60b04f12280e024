// What `check` prints of a CheckReport, and its exit code (CLI.md section 7). Pure functions.
#pragma once

#include <string>

#include "formats/image.h"

namespace imgconv {

/// Exit codes of `check` beside 0 and 1.
inline constexpr int kCheckFoundCorruption = 2;
inline constexpr int kCheckFoundLeaks = 3;
inline constexpr int kCheckUnsupported = 63;

/// What -r has repaired, before the image is checked once more.
std::string repairs_to_text(const CheckReport& report);
std::string check_to_text(const CheckReport& report);
/// `filename` as the user gave it.
std::string check_to_json(const CheckReport& report, const std::string& filename,
                          const std::string& format);
int check_exit_code(const CheckReport& report);

}  // namespace imgconv
