// Repeats a system call that a signal interrupted before it did anything. Few calls on files can
// be: those of file systems that wait for a server. Not for close(), which ends the descriptor all
// the same. Any thread.
#pragma once

#include <cerrno>

namespace imgconv {

/// What `call` returns when it is not interrupted any more. Requires: it answers -1 and sets errno.
template <class Call>
auto until_uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace imgconv
