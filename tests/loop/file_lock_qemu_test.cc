// The locks against the genuine tool: each side must keep the other out.
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <array>
#include <string>
#include <vector>

#include "loop/posix_storage.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::IsOk;

/// A running qemu-io that has the image open until this object dies.
class QemuIo {
 public:
  QemuIo(const std::string& image, bool is_read_only) {
    std::array<int, 2> input{};
    std::array<int, 2> output{};
    REQUIRE(::pipe(input.data()) == 0);
    REQUIRE(::pipe(output.data()) == 0);
    const std::string program = *test::qemu_io_path();
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      ::dup2(input[0], STDIN_FILENO);
      ::dup2(output[1], STDOUT_FILENO);
      ::close(input[1]);
      ::close(output[0]);
      ::execlp(program.c_str(), program.c_str(), "-f", "qcow2", image.c_str(),
               is_read_only ? "-r" : nullptr, nullptr);
      ::_exit(127);
    }
    ::close(input[0]);
    ::close(output[1]);
    input_ = input[1];
    wait_until_open(output[0]);
    ::close(output[0]);
  }
  ~QemuIo() {
    ::close(input_);
    ::waitpid(child_, nullptr, 0);
  }
  QemuIo(const QemuIo&) = delete;
  QemuIo& operator=(const QemuIo&) = delete;

 private:
  /// It answers commands only after it has opened the image.
  void wait_until_open(int output) {
    const std::string command = "length\n";
    REQUIRE(::write(input_, command.data(), command.size()) ==
            static_cast<ssize_t>(command.size()));
    std::string answer;
    std::array<char, 256> part{};
    while (answer.find("1 MiB") == std::string::npos) {
      const ssize_t count = ::read(output, part.data(), part.size());
      REQUIRE(count > 0);
      answer.append(part.data(), static_cast<size_t>(count));
    }
  }

  pid_t child_ = -1;
  int input_ = -1;
};

struct Fixture {
  Fixture() {
    const auto created = test::qemu_img({"create", "-q", "-f", "qcow2", image, "1M"});
    REQUIRE(created.exit_status == 0);
  }

  test::TempDir directory;
  std::string image = directory.file("image.qcow2");
  test::InlineExecutor executor;
  PosixStorage storage{executor, [](bool) -> Uring* { return nullptr; }};

  Result<std::unique_ptr<File>> open(LockMode lock) {
    OpenFileOptions options;
    options.lock = lock;
    options.writable = lock == LockMode::kWrite;
    return storage.open(image, options);
  }
};

}  // namespace

TEST_CASE("Lock: a qemu-io that writes keeps readers, writers and creators out",
          "[loop][file_lock][qemu]") {
  if (test::skip_without_qemu_img() || test::skip_without_qemu_io()) return;
  Fixture fixture;
  const QemuIo qemu_io(fixture.image, /*is_read_only=*/false);
  CHECK_THAT(fixture.open(LockMode::kRead), FailsSaying("Failed to get shared \"write\" lock"));
  CHECK_THAT(fixture.open(LockMode::kWrite), FailsSaying("Failed to get \"write\" lock"));
  CHECK_THAT(fixture.storage.create(fixture.image, CacheMode::kUnsafe),
             FailsSaying("Failed to get \"write\" lock"));
  CHECK_THAT(fixture.open(LockMode::kForceShare), IsOk());
}

TEST_CASE("Lock: a qemu-io that reads lets readers in and keeps writers out",
          "[loop][file_lock][qemu]") {
  if (test::skip_without_qemu_img() || test::skip_without_qemu_io()) return;
  Fixture fixture;
  const QemuIo qemu_io(fixture.image, /*is_read_only=*/true);
  CHECK_THAT(fixture.open(LockMode::kRead), IsOk());
  CHECK_THAT(fixture.open(LockMode::kWrite), FailsSaying("Failed to get \"write\" lock"));
}

TEST_CASE("Lock: qemu-img is kept out by our writer and by our creator",
          "[loop][file_lock][qemu]") {
  if (test::skip_without_qemu_img()) return;
  Fixture fixture;
  {
    const auto file = fixture.open(LockMode::kWrite);
    REQUIRE_THAT(file, IsOk());
    const auto check = test::qemu_img({"check", fixture.image});
    CHECK(check.exit_status == 1);
    CHECK(check.err.find("Failed to get shared \"write\" lock") != std::string::npos);
    CHECK(test::qemu_img({"info", "-U", fixture.image}).exit_status == 0);
  }
  const auto file = fixture.storage.create(fixture.image, CacheMode::kUnsafe);
  REQUIRE_THAT(file, IsOk());
  const auto create = test::qemu_img({"create", "-q", "-f", "qcow2", fixture.image, "1M"});
  CHECK(create.exit_status == 1);
  CHECK(create.err.find("Failed to get \"resize\" lock") != std::string::npos);
}

TEST_CASE("Lock: qemu-img may read but not write what we read", "[loop][file_lock][qemu]") {
  if (test::skip_without_qemu_img()) return;
  Fixture fixture;
  const auto file = fixture.open(LockMode::kRead);
  REQUIRE_THAT(file, IsOk());
  CHECK(test::qemu_img({"check", fixture.image}).exit_status == 0);
  const auto resize = test::qemu_img({"resize", fixture.image, "2M"});
  CHECK(resize.exit_status == 1);
  CHECK(resize.err.find("Failed to get \"write\" lock") != std::string::npos);
}

}  // namespace imgconv
