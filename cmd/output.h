// Results on stdout. Unlike fmt::print, which throws when the reader of a pipe went away or the
// disk is full, printing goes on to nowhere: an image that was made is made. Main thread only.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

namespace imgconv {

inline void print_text(std::string_view text) {
  // A short write has no remedy here; see above.
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stdout));
}

template <class... Args>
void print_out(fmt::format_string<Args...> format, Args&&... args) {
  print_text(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace imgconv
