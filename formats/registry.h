// The table of all drivers. Adding a format is one line in registry.cc.
#pragma once

#include <span>
#include <string_view>

#include "formats/driver.h"

namespace imgconv {

std::span<const BlockDriver* const> all_drivers();
/// Null when there is no such format.
const BlockDriver* find_driver(std::string_view name);
/// The driver whose probe accepts the first 512 bytes (zero padded); raw when none does.
const BlockDriver& probe_driver(std::span<const std::byte> head);

}  // namespace imgconv
