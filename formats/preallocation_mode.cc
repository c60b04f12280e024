#include "formats/preallocation_mode.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace imgconv {
namespace {

/// In the order of the enumeration.
constexpr std::array<std::string_view, 4> kNames = {"off", "metadata", "falloc", "full"};

}  // namespace

std::optional<Preallocation> find_preallocation(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Preallocation>(found - kNames.begin());
}

std::string_view preallocation_name(Preallocation mode) {
  return kNames[static_cast<size_t>(mode)];
}

}  // namespace imgconv
