// out_of_memory(): how the process ends when there is no memory left.
//
// Unwinding would itself need memory, and tasks whose I/O is in flight cannot be unwound. So one
// line is said, files that would pass for more than they are go the way that their EmergencyCleanup
// tells, and the process ends with 1. main() installs it as the handler of `new`; what allocates
// otherwise calls it. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace imgconv {

/// "PROGRAM: Cannot allocate memory", and exit status 1.
[[noreturn]] void out_of_memory();

/// While it lives, what out_of_memory() does to a file. Allocates nothing. Any thread.
class EmergencyCleanup {
 public:
  enum class Action : uint8_t {
    kRemoveName,
    kEmpty,  ///< Of a regular file; anything else stays.
  };

  /// `path` must outlive it.
  EmergencyCleanup(const std::string& path, Action action);
  /// kEmpty, of an open file, which must outlive it.
  explicit EmergencyCleanup(int descriptor);
  EmergencyCleanup(const EmergencyCleanup&) = delete;
  EmergencyCleanup& operator=(const EmergencyCleanup&) = delete;
  ~EmergencyCleanup();

 private:
  friend void out_of_memory();

  void join();
  void clean_up() const;

  /// Null: the descriptor tells.
  const std::string* const path_ = nullptr;
  const int descriptor_ = -1;
  const Action action_;
  EmergencyCleanup* next_ = nullptr;
};

}  // namespace imgconv
