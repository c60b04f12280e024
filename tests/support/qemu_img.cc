#include "tests/support/qemu_img.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <system_error>

namespace imgconv::test {
namespace {

constexpr int kCannotStart = 127;

/// Takes what a child prints. A memory file, not a pipe: nobody has to read while the child runs.
class Capture {
 public:
  Capture() : descriptor_(::memfd_create("capture", MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
  }
  ~Capture() { ::close(descriptor_); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  int descriptor() const { return descriptor_; }
  std::string text() const {
    std::string text;
    std::array<char, 4096> buffer;
    off_t position = 0;
    for (;;) {
      const ssize_t count = ::pread(descriptor_, buffer.data(), buffer.size(), position);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return text;
      text.append(buffer.data(), static_cast<size_t>(count));
      position += count;
    }
  }

 private:
  const int descriptor_;
};

int exit_status_of(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return 128 + WTERMSIG(status);
}

std::optional<std::string> find_in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream directories(path == nullptr ? "" : path);
  for (std::string directory; std::getline(directories, directory, ':');) {
    const std::string candidate = directory + "/" + program;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return std::nullopt;
}

std::optional<std::string> find_tool(const char* variable, const std::string& program) {
  const char* given = std::getenv(variable);
  if (given != nullptr && *given != '\0') return given;
  return find_in_path(program);
}

bool skip_without(const std::optional<std::string>& tool, const char* program,
                  const char* variable) {
  if (tool) return false;
  fmt::print("skipped: no {} in PATH and {} is not set\n", program, variable);
  return true;
}

CommandResult run_tool(const std::string& tool, const std::vector<std::string>& arguments,
                       const std::string& directory) {
  std::vector<std::string> argv{tool};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run_command(argv, directory);
}

}  // namespace

CommandResult run_command(const std::vector<std::string>& argv, const std::string& directory) {
  const Capture out;
  const Capture err;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out.descriptor(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, err.descriptor(), STDERR_FILENO);
  if (!directory.empty()) {
    ::posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  }
  std::vector<char*> pointers;
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);

  pid_t child = 0;
  const int failure =
      ::posix_spawnp(&child, pointers[0], &actions, nullptr, pointers.data(), ::environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) {
    return {kCannotStart, "", argv[0] + ": " + std::generic_category().message(failure)};
  }
  CommandResult result;
  result.exit_status = exit_status_of(child);
  result.out = out.text();
  result.err = err.text();
  return result;
}

std::optional<std::string> qemu_img_path() { return find_tool("IMGCONV_QEMU_IMG", "qemu-img"); }
std::optional<std::string> qemu_io_path() { return find_tool("IMGCONV_QEMU_IO", "qemu-io"); }

bool skip_without_qemu_img() {
  return skip_without(qemu_img_path(), "qemu-img", "IMGCONV_QEMU_IMG");
}
bool skip_without_qemu_io() { return skip_without(qemu_io_path(), "qemu-io", "IMGCONV_QEMU_IO"); }

CommandResult qemu_img(const std::vector<std::string>& arguments, const std::string& directory) {
  return run_tool(*qemu_img_path(), arguments, directory);
}

CommandResult qemu_io(const std::vector<std::string>& arguments, const std::string& directory) {
  return run_tool(*qemu_io_path(), arguments, directory);
}

}  // namespace imgconv::test
