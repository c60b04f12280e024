#include "cmd/size_arg.h"

#include <fmt/format.h>

#include <cerrno>
#include <limits>

#include "formats/options.h"

namespace imgconv {

Result<uint64_t> parse_size_arg(std::string_view what, std::string_view text) {
  // Sizes become file offsets, which are signed.
  constexpr uint64_t kLargest = std::numeric_limits<int64_t>::max();
  const Result<uint64_t> size = parse_option_size(what, text);
  if (!size && size.error().code() != ERANGE) {
    return Error(EINVAL,
                 fmt::format("Invalid {} specified. You may use k, M, G, T, P or E suffixes for\n"
                             "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.",
                             what));
  }
  if (!size || *size > kLargest) {
    return Error(ERANGE,
                 fmt::format("Invalid {} specified. Must be between 0 and {}.", what, kLargest));
  }
  return *size;
}

}  // namespace imgconv
