// ProgressBar: the percentage of -p on stdout, and the answer to SIGUSR1 on stderr.
//
// The signal handler only sets a flag; the line is printed at the next step of progress. Loop
// thread only; one command of the process shows progress.
#pragma once

#include <cstdint>

#include "cmd/report.h"

namespace imgconv {

/// From now on SIGUSR1 asks for a line instead of killing the process. Scripts send it to any
/// command at any time, so main() calls this first.
void install_progress_signal();

class ProgressBar {
 public:
  /// `step_percent`: how much it must have moved for a new line under -p.
  ProgressBar(const Report& report, bool is_visible, double step_percent);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  /// Ends the line, if there is one.
  ~ProgressBar();

  /// The line is ended also if nothing is shown on it, as some commands of qemu-img do.
  void begin_line() { has_line_ = true; }
  /// Shows 0 %.
  void start();
  void update(uint64_t done, uint64_t total);
  /// Shows 100 %, whatever was counted; also when it stands there already, as qemu-img does.
  void finish();

 private:
  void show(double percent);

  const Report& report_;
  bool is_visible_;
  double step_percent_;
  double last_shown_percent_ = -1000;
  bool has_line_ = false;
};

}  // namespace imgconv
