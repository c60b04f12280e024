#include "loop/lock_holder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>

namespace imgconv {
namespace {

/// A virtual machine's command line fills pages; its beginning says which it is.
constexpr size_t kMaxCommandBytes = 160;

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

/// The first numeric name in the folder for which `matches`, or nothing.
std::string find_number(const std::string& folder,
                        const std::function<bool(const std::string&)>& matches) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), &::closedir);
  if (entries == nullptr) return {};
  while (const dirent* const entry = ::readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (is_number(name) && matches(name)) return name;
  }
  return {};
}

/// What is known of a file without asking its file server, which may be out of reach.
std::optional<struct statx> attributes(int folder, const std::string& name, int flags) {
  struct statx status {};
  const int asked = ::statx(folder, name.c_str(), flags | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
                            STATX_INO, &status);
  if (asked != 0) return std::nullopt;
  return status;
}

bool is_same(const struct statx& a, const struct statx& b) {
  return a.stx_ino == b.stx_ino && a.stx_dev_major == b.stx_dev_major &&
         a.stx_dev_minor == b.stx_dev_minor;
}

/// A line of fdinfo: "lock:\t1: OFDLCK ADVISORY READ -1 08:01:1234 100 100".
bool covers(const std::string& line, off_t byte) {
  std::istringstream words(line);
  std::string label;
  std::string number;
  std::string type;
  std::string strength;
  std::string access;
  std::string holder;
  std::string inode;
  off_t first = 0;
  std::string last;
  words >> label >> number >> type >> strength >> access >> holder >> inode >> first >> last;
  if (words.fail() || label != "lock:" || type == "FLOCK" || byte < first) return false;
  return last == "EOF" || (is_number(last) && byte <= std::stoll(last));
}

bool holds_lock(const std::string& fdinfo, off_t byte) {
  std::ifstream lines(fdinfo);
  for (std::string line; std::getline(lines, line);) {
    if (covers(line, byte)) return true;
  }
  return false;
}

/// The command line in one line, safe to show: it is the words of a stranger.
std::string command_of(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/cmdline", std::ios::binary);
  std::string command(kMaxCommandBytes + 1, '\0');
  file.read(command.data(), static_cast<std::streamsize>(command.size()));
  command.resize(static_cast<size_t>(file.gcount()));
  const bool is_cut = command.size() > kMaxCommandBytes;
  if (is_cut) command.resize(kMaxCommandBytes);
  while (command.ends_with('\0')) command.pop_back();
  for (char& c : command) {
    if (c == '\0') c = ' ';
    if ((c >= 0 && c < ' ') || c == '\x7f') c = '?';
  }
  return is_cut ? command + "..." : command;
}

}  // namespace

std::string describe_lock_holder(int descriptor, off_t byte) {
  const std::optional<struct statx> wanted = attributes(descriptor, "", AT_EMPTY_PATH);
  if (!wanted) return {};
  const std::string own_pid = fmt::to_string(::getpid());
  const std::string pid = find_number("/proc", [&](const std::string& candidate) {
    if (candidate == own_pid) return false;
    const std::string process = "/proc/" + candidate;
    const std::string found = find_number(process + "/fd", [&](const std::string& number) {
      const std::optional<struct statx> status = attributes(AT_FDCWD, process + "/fd/" + number, 0);
      return status && is_same(*status, *wanted) && holds_lock(process + "/fdinfo/" + number, byte);
    });
    return !found.empty();
  });
  if (pid.empty()) return {};
  return fmt::format("Process {} holds the lock: {}", pid, command_of(pid));
}

}  // namespace imgconv
