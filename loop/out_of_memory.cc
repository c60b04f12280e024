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
    : path_(&path), action_(action) {
  join();
}

EmergencyCleanup::EmergencyCleanup(int descriptor)
    : descriptor_(descriptor), action_(Action::kEmpty) {
  join();
}

void EmergencyCleanup::join() {
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

void EmergencyCleanup::clean_up() const {
  // Whether it succeeds: there is nobody left to tell.
  if (path_ == nullptr) {
    static_cast<void>(!::ftruncate(descriptor_, 0));
  } else if (action_ == Action::kEmpty) {
    static_cast<void>(!::truncate(path_->c_str(), 0));
  } else {
    static_cast<void>(!::unlink(path_->c_str()));
  }
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
    cleanup->clean_up();
  }
  ::_exit(1);
}

}  // namespace imgconv
