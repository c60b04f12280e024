// Sizes as people read them: "1.44 MiB". Pure function, any thread.
#pragma once

#include <cstdint>
#include <string>

namespace imgconv {

/// Three significant digits and a binary unit; the next unit begins at 1000, not at 1024, so that
/// there are never more than three digits before the point ("0.977 KiB" for 1000).
std::string human_size(uint64_t bytes);

}  // namespace imgconv
