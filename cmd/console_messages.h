// ConsoleMessages: lets the engine speak through the report and the progress bar. Loop thread only.
#pragma once

#include <string>

#include "cmd/progress_bar.h"
#include "cmd/report.h"
#include "engine/messages.h"

namespace imgconv {

class ConsoleMessages final : public Messages {
 public:
  /// `progress` may be null: then progress is not shown. Both must outlive this object.
  explicit ConsoleMessages(const Report& report, ProgressBar* progress = nullptr)
      : report_(report), progress_(progress) {}

  void warning(const std::string& text) override { report_.warning(text); }
  void error(const std::string& text) override { report_.error(text); }
  void raw_line(const std::string& text) override { report_.raw_line(text); }
  void progress(uint64_t done, uint64_t total) override {
    if (progress_ != nullptr) progress_->update(done, total);
  }

 private:
  const Report& report_;
  ProgressBar* progress_;
};

}  // namespace imgconv
