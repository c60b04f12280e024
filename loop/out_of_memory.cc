#include "loop/out_of_memory.h"

#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <string_view>

namespace imgconv {
namespace {

std::mutex cleanups_mutex;
EmergencyCleanup* cleanups = nullptr;

iovec piece(std::string_view text) { return {const_cast<char*>(text.data()), text.size()}; }

}  // namespace

EmergencyCleanup::EmergencyCleanup(const std::string& path, Action action)
    : path_(path), action_(action) {
  const std::lock_guard lock(cleanups_mutex);
  next_ = cleanups;
  cleanups = this;
}

EmergencyCleanup::~EmergencyCleanup() {
  const std::lock_guard lock(cleanups_mutex);
  EmergencyCleanup** link = &cleanups;
  while (*link != this) link = &(*link)->next_;
  *link = next_;
}

void out_of_memory() {
  // Never unlocked: a second thread that finds no memory waits here for the end.
  cleanups_mutex.lock();
  const iovec line[] = {piece(program_invocation_short_name), piece(": Cannot allocate memory\n")};
  // If stderr cannot be written there is nobody to tell.
  static_cast<void>(!::writev(STDERR_FILENO, line, 2));
  // Other threads go on until the end. The kernel asks for the limit while it has the file locked:
  // a write that comes after the file was emptied fails.
  const rlimit no_writes{0, 0};
  ::setrlimit(RLIMIT_FSIZE, &no_writes);
  for (const EmergencyCleanup* cleanup = cleanups; cleanup != nullptr; cleanup = cleanup->next_) {
    const char* const path = cleanup->path_.c_str();
    const bool is_name = cleanup->action_ == EmergencyCleanup::Action::kRemoveName;
    static_cast<void>(!(is_name ? ::unlink(path) : ::truncate(path, 0)));
  }
  ::_exit(1);
}

}  // namespace imgconv
