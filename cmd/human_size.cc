#include "cmd/human_size.h"

#include <fmt/printf.h>

#include <array>

namespace imgconv {

std::string human_size(uint64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return fmt::sprintf("%0.3g %sB", value, kUnits[unit]);
}

}  // namespace imgconv
