// Names of QEMU's drivers, of which we have few: what an image may give for the format of another
// file, its backing file, and what is said when a format is asked for that we have not. Pure; any
// thread.
#pragma once

#include <string_view>

#include "loop/error.h"

namespace imgconv {

/// A file of such a format cannot be opened here, but it can be referred to.
bool is_known_format(std::string_view name);

// Requires for all: find_driver(name) is null.

/// "Format driver 'vmdk' does not support image creation", "Unknown file format 'nope'".
Error no_creation(std::string_view name);
/// "Block driver 'vmdk' does not support size measurement", or as no_creation().
Error no_measurement(std::string_view name);
/// "Format driver 'vmdk' does not support option amendment", "Unknown file format 'nope'".
Error no_amendment(std::string_view name);

}  // namespace imgconv
