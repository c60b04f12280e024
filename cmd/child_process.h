// ChildProcess: a process made by fork(), killed and waited for when this object goes away, so that
// none is left behind on any path. The child dies with its parent. SignalWait: what the parent of
// such children sleeps on. Main thread only; the process must have no other threads when it forks.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loop/result.h"

namespace imgconv {

class ChildProcess {
 public:
  /// Runs `body` in a child, which ends with what it returns, without destructors of this process's
  /// objects and with nothing of its output buffers.
  static Result<ChildProcess> start(const std::function<int()>& body);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  /// Kills it if it still runs.
  ~ChildProcess();

  pid_t id() const { return id_; }
  /// The wait status once it has ended; does not wait.
  std::optional<int> ended();
  void kill();

 private:
  explicit ChildProcess(pid_t id) : id_(id) {}

  pid_t id_;
  std::optional<int> status_;
};

/// Holds SIGCHLD and the signals that end a program back while it lives. Children inherit that:
/// they do not answer Ctrl-C, their parent kills them.
class SignalWait {
 public:
  SignalWait();
  SignalWait(const SignalWait&) = delete;
  SignalWait& operator=(const SignalWait&) = delete;
  ~SignalWait();

  /// Sleeps until a child ended, a signal came, or the time is over.
  void wait_ns(int64_t duration_ns);
  /// The signal that asked this program to end; it is the caller's to obey, at its convenience.
  std::optional<int> interruption() const { return interruption_; }

 private:
  sigset_t awaited_;
  sigset_t previous_;
  std::optional<int> interruption_;
};

/// Runs a program of $PATH and returns what it wrote; nothing if there is no such program or it is
/// not done in time.
std::optional<std::string> output_of(const std::vector<std::string>& command, SignalWait& signals,
                                     int64_t limit_ns);

}  // namespace imgconv
