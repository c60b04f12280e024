// A library for LD_PRELOAD: pread and pwrite do less than asked, or are interrupted, by turns, as
// POSIX allows them to. For tests/cli/faults.py.
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace {

std::atomic<unsigned> calls{0};

/// How much of a request is served; 0: it is interrupted.
size_t served(size_t length) {
  const unsigned number = calls.fetch_add(1, std::memory_order_relaxed);
  if (number % 5 == 3) return 0;
  if (number % 2 == 0 || length < 2) return length;
  return 1 + (number * 7919U) % (length - 1);
}

template <class Function, class Buffer>
ssize_t call(const char* name, int descriptor, Buffer buffer, size_t length, off_t offset) {
  const auto genuine = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
  const size_t part = served(length);
  if (part == 0 && length > 0) {
    errno = EINTR;
    return -1;
  }
  return genuine(descriptor, buffer, part, offset);
}

using Read = ssize_t (*)(int, void*, size_t, off_t);
using Write = ssize_t (*)(int, const void*, size_t, off_t);

}  // namespace

extern "C" {

ssize_t pread(int descriptor, void* buffer, size_t length, off_t offset) {
  return call<Read>("pread", descriptor, buffer, length, offset);
}
ssize_t pread64(int descriptor, void* buffer, size_t length, off_t offset) {
  return call<Read>("pread64", descriptor, buffer, length, offset);
}
ssize_t pwrite(int descriptor, const void* buffer, size_t length, off_t offset) {
  return call<Write>("pwrite", descriptor, buffer, length, offset);
}
ssize_t pwrite64(int descriptor, const void* buffer, size_t length, off_t offset) {
  return call<Write>("pwrite64", descriptor, buffer, length, offset);
}

}  // extern "C"
