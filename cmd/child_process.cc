#include "cmd/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "loop/timer.h"
#include "loop/unique_fd.h"

namespace imgconv {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
// What a shell returns for a program that it did not find.
constexpr int kNotFound = 127;

[[noreturn]] void become(const std::vector<std::string>& command, int output) {
  const UniqueFd nothing(::open("/dev/null", O_RDWR));
  ::dup2(nothing.get(), STDIN_FILENO);
  ::dup2(nothing.get(), STDERR_FILENO);
  ::dup2(output, STDOUT_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  ::_exit(kNotFound);
}

}  // namespace

Result<ChildProcess> ChildProcess::start(const std::function<int()>& body) {
  // Or the child would print it a second time.
  std::fflush(nullptr);
  const pid_t parent = ::getpid();
  const pid_t id = ::fork();
  if (id < 0) return Error::from_errno(errno, "cannot start a process");
  if (id > 0) return ChildProcess(id);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before that.
  if (::getppid() != parent) ::_exit(1);
  const int code = body();
  std::fflush(nullptr);
  ::_exit(code);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : id_(std::exchange(other.id_, -1)), status_(other.status_) {}

ChildProcess::~ChildProcess() {
  if (id_ > 0) kill();
}

std::optional<int> ChildProcess::ended() {
  int status = 0;
  if (!status_ && ::waitpid(id_, &status, WNOHANG) == id_) status_ = status;
  return status_;
}

void ChildProcess::kill() {
  if (status_) return;
  ::kill(id_, SIGKILL);
  int status = 0;
  while (::waitpid(id_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = status;
}

SignalWait::SignalWait() {
  sigemptyset(&awaited_);
  sigaddset(&awaited_, SIGCHLD);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    struct sigaction action = {};
    // nohup: what is ignored stays ignored.
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) {
      sigaddset(&awaited_, signal);
    }
  }
  sigprocmask(SIG_BLOCK, &awaited_, &previous_);
}

SignalWait::~SignalWait() { sigprocmask(SIG_SETMASK, &previous_, nullptr); }

void SignalWait::wait_ns(int64_t duration_ns) {
  const timespec duration{duration_ns / kNsPerSecond, duration_ns % kNsPerSecond};
  const int signal = ::sigtimedwait(&awaited_, nullptr, &duration);
  if (signal > 0 && signal != SIGCHLD) interruption_ = signal;
}

std::optional<std::string> output_of(const std::vector<std::string>& command, SignalWait& signals,
                                     int64_t limit_ns) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return std::nullopt;
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  auto child = ChildProcess::start([&command, &writer]() -> int { become(command, writer.get()); });
  if (!child) return std::nullopt;
  writer = UniqueFd();

  std::string text;
  const int64_t deadline_ns = steady_clock_ns() + limit_ns;
  for (;;) {
    const int64_t left_ns = deadline_ns - steady_clock_ns();
    if (left_ns <= 0 || signals.interruption()) return std::nullopt;
    pollfd descriptor{reader.get(), POLLIN, 0};
    constexpr int kSliceMs = 100;
    if (::poll(&descriptor, 1, kSliceMs) <= 0) {
      signals.wait_ns(0);
      continue;
    }
    std::array<char, 4096> piece;
    const ssize_t length = ::read(reader.get(), piece.data(), piece.size());
    if (length <= 0) break;
    text.append(piece.data(), static_cast<size_t>(length));
  }
  while (!child->ended() && steady_clock_ns() < deadline_ns) signals.wait_ns(kNsPerSecond / 100);
  const std::optional<int> status = child->ended();
  if (!status || (WIFEXITED(*status) && WEXITSTATUS(*status) == kNotFound)) return std::nullopt;
  return text;
}

}  // namespace imgconv
