#include "cmd/size_arg.h"

#include <fmt/format.h>

#include <cerrno>

#include "formats/options.h"
#include "loop/messages_before.h"

namespace imgconv {

Result<uint64_t> parse_size_arg(std::string_view what, std::string_view text,
                                const SizeLimits& limits) {
  const Result<uint64_t> size = parse_option_size(what, text);
  if (!size && size.error().code() != ERANGE) {
    return preceded_by(
        Error(EINVAL, "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes."),
        fmt::format("Invalid {} specified. You may use k, M, G, T, P or E suffixes for", what));
  }
  if (!size || *size < limits.smallest || *size > limits.largest) {
    return Error(ERANGE, fmt::format("Invalid {} specified. Must be between {} and {}.", what,
                                     limits.smallest, limits.largest));
  }
  return *size;
}

}  // namespace imgconv
