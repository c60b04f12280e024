// What the engine has to say while it works: warnings and progress. cmd/ implements it; the engine
// never prints. Called on the loop thread.
#pragma once

#include <cstdint>
#include <string>

namespace imgconv {

class Messages {
 public:
  virtual ~Messages() = default;
  /// Printed as "PROG: warning: TEXT" on stderr.
  virtual void warning(const std::string& text) = 0;
  /// Printed as "PROG: TEXT" on stderr: an error beside the one that is returned.
  virtual void error(const std::string& text) = 0;
  /// Printed on stderr as it is, without prefix ("WARNING: Image format was not specified ...").
  virtual void raw_line(const std::string& text) = 0;
  /// Bytes done of bytes to do; called when it changed, `total` may be 0.
  virtual void progress(uint64_t done, uint64_t total) = 0;
};

}  // namespace imgconv
