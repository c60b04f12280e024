// A library for LD_PRELOAD: system calls do less than asked, or are refused as some kernels and
// file systems refuse them. $IMGCONV_FAULTS names what, by words with commas between; without it,
// "short". Only in imgconv and the programs of the unit tests, not in what they run. For
// tests/cli/faults.py and tests/faults.sh.
//
//   short     pread and pwrite serve a part, or are interrupted, by turns
//   fallocate is not supported
//   seek      SEEK_DATA and SEEK_HOLE are not known
//   direct    files cannot be opened with O_DIRECT
//   tmpfile   files cannot be made without a name
//   locks     there are no locks of open files
//   close     of a regular file that was written to fails, as where a server takes the data then
//   clone     no range can be cloned or copied by the kernel
//   signal    SIGTERM comes once, with the third write
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

namespace {

/// By the file that runs: a link to imgconv and the genuine tool have the same name.
bool is_our_program() {
  std::array<char, PATH_MAX> path;
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length < 0) return false;
  const std::string_view name(path.data(), static_cast<size_t>(length));
  return name.ends_with("/imgconv") || name.ends_with("_tests");
}

bool has(std::string_view fault) {
  static const bool is_ours = is_our_program();
  if (!is_ours) return false;
  const char* const asked = std::getenv("IMGCONV_FAULTS");
  std::string_view left = asked == nullptr ? "short" : asked;
  while (!left.empty()) {
    const std::string_view word = left.substr(0, left.find(','));
    if (word == fault) return true;
    left.remove_prefix(word.size() < left.size() ? word.size() + 1 : word.size());
  }
  return false;
}

template <class Function>
Function* genuine(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int refuse(int error) {
  errno = error;
  return -1;
}

std::atomic<unsigned> calls{0};

/// What the kernel serves of a file opened with O_DIRECT is whole blocks.
constexpr size_t kBlockBytes = 4096;

/// How much of a request is served; 0: it is interrupted.
size_t served(int descriptor, size_t length) {
  static const bool is_short = has("short");
  if (!is_short) return length;
  const unsigned number = calls.fetch_add(1, std::memory_order_relaxed);
  if (number % 5 == 3) return 0;
  if (number % 2 == 0 || length < 2) return length;
  const size_t part = 1 + (number * 7919U) % (length - 1);
  const bool is_direct = (::fcntl(descriptor, F_GETFL) & O_DIRECT) != 0;
  return is_direct ? std::min(length, (part / kBlockBytes + 1) * kBlockBytes) : part;
}

template <class Buffer>
ssize_t transfer(const char* name, int descriptor, Buffer buffer, size_t length, off_t offset) {
  const size_t part = served(descriptor, length);
  if (part == 0 && length > 0) return refuse(EINTR);
  return genuine<ssize_t(int, Buffer, size_t, off_t)>(name)(descriptor, buffer, part, offset);
}

void come_to_a_write() {
  static const bool is_asked = has("signal");
  static std::atomic<unsigned> writes{0};
  if (is_asked && writes.fetch_add(1, std::memory_order_relaxed) == 2) ::kill(::getpid(), SIGTERM);
}

off_t seek(const char* name, int descriptor, off_t offset, int whence) {
  if ((whence == SEEK_DATA || whence == SEEK_HOLE) && has("seek")) return refuse(EINVAL);
  return genuine<off_t(int, off_t, int)>(name)(descriptor, offset, whence);
}

int allocate(const char* name, int descriptor, int mode, off_t offset, off_t length) {
  if (has("fallocate")) return refuse(EOPNOTSUPP);
  return genuine<int(int, int, off_t, off_t)>(name)(descriptor, mode, offset, length);
}

/// 0, or why a file cannot be opened so.
int open_error(int flags) {
  if ((flags & O_TMPFILE) == O_TMPFILE && has("tmpfile")) return EOPNOTSUPP;
  if ((flags & O_DIRECT) != 0 && has("direct")) return EINVAL;
  return 0;
}

bool may_be_written(int descriptor) {
  struct stat status {};
  return ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) &&
         (::fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY;
}

}  // namespace

extern "C" {

int close(int descriptor) {
  const bool fails = has("close") && may_be_written(descriptor);
  const int closed = genuine<int(int)>("close")(descriptor);
  return fails ? refuse(EIO) : closed;
}

ssize_t pread(int descriptor, void* buffer, size_t length, off_t offset) {
  return transfer("pread", descriptor, buffer, length, offset);
}
ssize_t pread64(int descriptor, void* buffer, size_t length, off_t offset) {
  return transfer("pread64", descriptor, buffer, length, offset);
}
ssize_t pwrite(int descriptor, const void* buffer, size_t length, off_t offset) {
  come_to_a_write();
  return transfer("pwrite", descriptor, buffer, length, offset);
}
ssize_t pwrite64(int descriptor, const void* buffer, size_t length, off_t offset) {
  come_to_a_write();
  return transfer("pwrite64", descriptor, buffer, length, offset);
}

off_t lseek(int descriptor, off_t offset, int whence) noexcept {
  return seek("lseek", descriptor, offset, whence);
}
off_t lseek64(int descriptor, off_t offset, int whence) noexcept {
  return seek("lseek64", descriptor, offset, whence);
}

int fallocate(int descriptor, int mode, off_t offset, off_t length) {
  return allocate("fallocate", descriptor, mode, offset, length);
}
int fallocate64(int descriptor, int mode, off_t offset, off_t length) {
  return allocate("fallocate64", descriptor, mode, offset, length);
}

int open(const char* name, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const auto mode = va_arg(arguments, mode_t);
  va_end(arguments);
  const int error = open_error(flags);
  return error != 0 ? refuse(error)
                    : genuine<int(const char*, int, ...)>("open")(name, flags, mode);
}
int open64(const char* name, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const auto mode = va_arg(arguments, mode_t);
  va_end(arguments);
  const int error = open_error(flags);
  return error != 0 ? refuse(error)
                    : genuine<int(const char*, int, ...)>("open64")(name, flags, mode);
}

int fcntl(int descriptor, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const bool is_lock = command == F_OFD_SETLK || command == F_OFD_SETLKW || command == F_OFD_GETLK;
  if (is_lock && has("locks")) return refuse(EINVAL);
  return genuine<int(int, int, ...)>("fcntl")(descriptor, command, argument);
}
int fcntl64(int descriptor, int command, ...) __attribute__((alias("fcntl")));

int ioctl(int descriptor, unsigned long request, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  if (request == FICLONERANGE && has("clone")) return refuse(EOPNOTSUPP);
  return genuine<int(int, unsigned long, ...)>("ioctl")(descriptor, request, argument);
}

ssize_t copy_file_range(int in, off_t* in_offset, int out, off_t* out_offset, size_t length,
                        unsigned flags) {
  if (has("clone")) return refuse(EOPNOTSUPP);
  return genuine<ssize_t(int, off_t*, int, off_t*, size_t, unsigned)>("copy_file_range")(
      in, in_offset, out, out_offset, length, flags);
}

}  // extern "C"
