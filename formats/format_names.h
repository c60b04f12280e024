// Names that an image may give for the format of another file, its backing file. Pure; any thread.
#pragma once

#include <string_view>

namespace imgconv {

/// QEMU has many more drivers than we; a file of such a format cannot be opened here, but it can be
/// referred to.
bool is_known_format(std::string_view name);

}  // namespace imgconv
