// Sizes on the command line: "64k", "1.5G", "0x1000". The grammar is that of -o sizes; the messages
// are the command line's own. Pure function, any thread.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include "loop/result.h"

namespace imgconv {

/// What a size may be, both ends included. Sizes become file offsets, which are signed.
struct SizeLimits {
  uint64_t smallest = 0;
  uint64_t largest = std::numeric_limits<int64_t>::max();
};

/// `what` names the thing in messages: "image size", "rate limit".
Result<uint64_t> parse_size_arg(std::string_view what, std::string_view text,
                                const SizeLimits& limits = {});

}  // namespace imgconv
