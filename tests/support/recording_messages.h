// RecordingMessages: keeps what the engine has to say, for tests.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/messages.h"

namespace imgconv::test {

class RecordingMessages final : public Messages {
 public:
  void warning(const std::string& text) override { warnings.push_back(text); }
  void error(const std::string& text) override { errors.push_back(text); }
  void raw_line(const std::string& text) override { raw_lines.push_back(text); }
  void progress(uint64_t done, uint64_t total) override { steps.emplace_back(done, total); }

  std::vector<std::string> warnings;
  std::vector<std::string> errors;
  std::vector<std::string> raw_lines;
  /// Bytes done and bytes to do.
  std::vector<std::pair<uint64_t, uint64_t>> steps;
};

}  // namespace imgconv::test
