// The genuine qemu-img and qemu-io as independent judges, and running a program in general.
//
// Where the tools are: IMGCONV_QEMU_IMG, IMGCONV_QEMU_IO, else PATH. A test without its tool says
// so on stdout and returns: `if (skip_without_qemu_img()) return;`.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace imgconv::test {

struct CommandResult {
  /// Exit status, or 128 + signal.
  int exit_status = -1;
  std::string out;
  std::string err;
};

/// Runs argv[0], looked up in PATH, with stdin at /dev/null, in `directory` unless it is empty.
/// A program that cannot be started has the exit status 127.
CommandResult run_command(const std::vector<std::string>& argv, const std::string& directory = "");

std::optional<std::string> qemu_img_path();
std::optional<std::string> qemu_io_path();

/// True, after printing the reason, when the tool is missing.
bool skip_without_qemu_img();
bool skip_without_qemu_io();

/// Requires: the tool is there.
CommandResult qemu_img(const std::vector<std::string>& arguments,
                       const std::string& directory = "");
CommandResult qemu_io(const std::vector<std::string>& arguments, const std::string& directory = "");

}  // namespace imgconv::test
