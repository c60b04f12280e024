#include "cmd/progress_bar.h"

#include <fmt/printf.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "cmd/output.h"

namespace imgconv {

namespace {

volatile std::sig_atomic_t g_line_requested = 0;

void request_line(int /*signal*/) { g_line_requested = 1; }

}  // namespace

void install_progress_signal() {
  struct sigaction action = {};
  action.sa_handler = request_line;
  // Without SA_RESTART a status request would make blocking calls fail with EINTR.
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  sigaction(SIGUSR1, &action, nullptr);
}

ProgressBar::ProgressBar(const Report& report, bool is_visible, double step_percent)
    : report_(report), is_visible_(is_visible), step_percent_(step_percent) {}

ProgressBar::~ProgressBar() {
  if (!is_visible_ || !has_line_) return;
  print_out("\n");
  std::fflush(stdout);
}

void ProgressBar::start() { show(0); }

void ProgressBar::update(uint64_t done, uint64_t total) {
  if (total == 0) return;
  show(std::min(100.0, 100.0 * static_cast<double>(done) / static_cast<double>(total)));
}

void ProgressBar::finish() { show(100); }

void ProgressBar::show(double percent) {
  if (!is_visible_) {
    if (g_line_requested == 0) return;
    g_line_requested = 0;
    report_.raw_line(fmt::sprintf("    (%3.2f/100%%)", percent));
    return;
  }
  const bool moved = std::abs(percent - last_shown_percent_) > step_percent_;
  if (!moved && percent < 100 && percent > 0) return;
  last_shown_percent_ = percent;
  has_line_ = true;
  print_text(fmt::sprintf("    (%3.2f/100%%)\r", percent));
  std::fflush(stdout);
}

}  // namespace imgconv
