// Sizes on the command line: "64k", "1.5G", "0x1000". The grammar is that of -o sizes; the messages
// are the command line's own. Pure function, any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "loop/result.h"

namespace imgconv {

/// `what` names the thing in messages: "image size", "rate limit". At most 2^63 - 1.
Result<uint64_t> parse_size_arg(std::string_view what, std::string_view text);

}  // namespace imgconv
