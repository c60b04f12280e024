#include "loop/event_notifier.h"

#include <fmt/core.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "loop/error.h"

namespace imgconv {

EventNotifier::EventNotifier() : descriptor_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!descriptor_.is_open()) {
    fmt::print(stderr, "cannot create an event descriptor: {}\n", errno_text(errno));
    std::abort();
  }
}

void EventNotifier::set() {
  const uint64_t one = 1;
  // EAGAIN means that the counter is full: the descriptor is readable, which is all we want.
  while (::write(descriptor_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

uint64_t EventNotifier::clear() {
  uint64_t count = 0;
  ssize_t length = 0;
  do {
    length = ::read(descriptor_.get(), &count, sizeof count);
  } while (length < 0 && errno == EINTR);
  return length == sizeof count ? count : 0;
}

}  // namespace imgconv
