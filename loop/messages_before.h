// Several messages in one Error: what else qemu-img says, each on a line with its own prefix,
// before the message of the error itself. They travel in the text, ended by a NUL, which no file
// name and no other text contains; Error::within() adds its context to the last one. Any thread.
#pragma once

#include <string_view>

#include "loop/error.h"

namespace imgconv {

inline constexpr char kMessageEnd = '\0';

/// The error, with `message` said before it.
Error preceded_by(Error error, std::string_view message);

}  // namespace imgconv
