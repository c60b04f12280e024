// Report: what the user is told beside results, each line with the program's name in front.
//
// The only file that writes to stderr. The name is the base name of argv[0], so that a link named
// qemu-img speaks as qemu-img does. Results go to stdout and are printed by the commands. Loop
// thread only.
#pragma once

#include <string>

#include "loop/error.h"

namespace imgconv {

class Report {
 public:
  /// `argv0`: as the kernel handed it over; may contain directories.
  explicit Report(const std::string& argv0);

  const std::string& program_name() const { return program_name_; }

  /// "PROG: TEXT"; so for every message of a text that has several. Then the hint, bare.
  void error(const Error& error) const;
  void error(const std::string& text) const;
  /// "PROG: warning: TEXT".
  void warning(const std::string& text) const;
  /// The text and a newline, without prefix.
  void raw_line(const std::string& text) const;
  /// As raw_line(), but results printed before may come out behind it, as qemu-img's do.
  void unordered_line(const std::string& text) const;

  /// A misuse of the command line: `text`, and the line that points to --help.
  Error usage_error(std::string text) const;

 private:
  std::string program_name_;
};

}  // namespace imgconv
