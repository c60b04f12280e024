// The values of the option "preallocation" and of `resize --preallocation`. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace imgconv {

enum class Preallocation : uint8_t { kOff, kMetadata, kFalloc, kFull };

/// Nothing for an unknown name.
std::optional<Preallocation> find_preallocation(std::string_view name);
/// As the user writes it.
std::string_view preallocation_name(Preallocation mode);

}  // namespace imgconv
