#include "loop/posix_storage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <catch2/catch.hpp>

#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "loop/posix_file.h"
#include "tests/support/inline_executor.h"
#include "tests/support/matchers.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using test::FailsSaying;
using test::FailsWith;
using test::InlineExecutor;
using test::IsOk;
using test::pattern;
using test::TempDir;

constexpr const char* kSharedWrite = "Failed to get shared \"write\" lock";
constexpr const char* kWrite = "Failed to get \"write\" lock";

OpenFileOptions reading(LockMode lock = LockMode::kRead) {
  OpenFileOptions options;
  options.lock = lock;
  return options;
}

OpenFileOptions writing() {
  OpenFileOptions options;
  options.writable = true;
  options.lock = LockMode::kWrite;
  return options;
}

struct Fixture {
  TempDir directory;
  InlineExecutor executor;
  PosixStorage storage{executor, [](bool) -> Uring* { return nullptr; }};

  std::string existing_file(const std::string& name = "f") {
    const std::string path = directory.file(name);
    test::write_file(path, pattern(0, 8192));
    return path;
  }
};

/// Another process that has a file open until this object dies.
class OtherProcess {
 public:
  OtherProcess(const std::string& path, const OpenFileOptions& options) {
    int to_parent[2];
    int to_child[2];
    REQUIRE(::pipe(to_parent) == 0);
    REQUIRE(::pipe(to_child) == 0);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      ::close(to_child[1]);
      hold(path, options, to_parent[1], to_child[0]);
    }
    ::close(to_parent[1]);
    ::close(to_child[0]);
    release_ = to_child[1];
    char answer = 'n';
    const ssize_t count = ::read(to_parent[0], &answer, 1);
    ::close(to_parent[0]);
    REQUIRE(count == 1);
    REQUIRE(answer == 'y');
  }
  ~OtherProcess() {
    ::close(release_);
    ::waitpid(child_, nullptr, 0);
  }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  pid_t pid() const { return child_; }

 private:
  [[noreturn]] static void hold(const std::string& path, const OpenFileOptions& options,
                                int answer_to, int wait_at) {
    InlineExecutor executor;
    PosixStorage storage(executor, [](bool) -> Uring* { return nullptr; });
    const auto file = storage.open(path, options);
    const char answer = file ? 'y' : 'n';
    char ignored = 0;
    if (::write(answer_to, &answer, 1) == 1 && ::read(wait_at, &ignored, 1) >= 0) ::_exit(0);
    ::_exit(1);
  }

  pid_t child_ = -1;
  int release_ = -1;
};

}  // namespace

TEST_CASE("PosixStorage: a missing file, with the text of the file driver",
          "[loop][posix_storage]") {
  Fixture fixture;
  const auto result = fixture.storage.open("/nonexistent/x", reading());
  CHECK_THAT(result, FailsSaying("Could not open '/nonexistent/x': No such file or directory"));
  CHECK(result.error().code() == ENOENT);
}

TEST_CASE("PosixStorage: directories, pipes and character devices are refused",
          "[loop][posix_storage]") {
  Fixture fixture;
  const std::string pipe = fixture.directory.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  for (const std::string& name : {fixture.directory.path(), pipe, std::string("/dev/null")}) {
    CHECK_THAT(fixture.storage.open(name, reading()),
               FailsSaying("'file' driver requires '" + name + "' to be a regular file"));
  }
  CHECK_THAT(fixture.storage.create(fixture.directory.path(), CacheMode::kUnsafe),
             FailsSaying("Could not create '" + fixture.directory.path() + "': Is a directory"));
  CHECK_THAT(fixture.storage.create("/dev/null", CacheMode::kUnsafe),
             FailsSaying("Cannot grow device files"));
}

TEST_CASE("PosixStorage: create makes a file with mode 0644 less the umask",
          "[loop][posix_storage]") {
  Fixture fixture;
  const std::string path = fixture.directory.file("new");
  const mode_t old_mask = ::umask(022);
  const auto file = fixture.storage.create(path, CacheMode::kWriteback);
  ::umask(old_mask);
  REQUIRE_THAT(file, IsOk());
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0644);
  CHECK((*file)->name() == path);
  CHECK(fixture.storage.exists(path));
  CHECK_THAT(fixture.storage.remove(path), IsOk());
  CHECK_FALSE(fixture.storage.exists(path));
}

TEST_CASE("PosixStorage: create keeps the inode of an existing file and empties it",
          "[loop][posix_storage]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const std::string link = fixture.directory.file("link");
  REQUIRE(::link(path.c_str(), link.c_str()) == 0);
  const auto file = fixture.storage.create(path, CacheMode::kWriteback);
  REQUIRE_THAT(file, IsOk());
  CHECK(fixture.storage.is_same_file(path, link));
  CHECK((*file)->stat()->length == 0);
}

TEST_CASE("PosixStorage: create in a missing directory", "[loop][posix_storage]") {
  Fixture fixture;
  CHECK_THAT(fixture.storage.create("/nonexistent/x", CacheMode::kUnsafe),
             FailsSaying("Could not create '/nonexistent/x': No such file or directory"));
}

TEST_CASE("PosixStorage: is_same_file looks through symbolic links", "[loop][posix_storage]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const std::string link = fixture.directory.file("link");
  REQUIRE(::symlink(path.c_str(), link.c_str()) == 0);
  CHECK(fixture.storage.is_same_file(path, link));
  CHECK_FALSE(fixture.storage.is_same_file(path, fixture.existing_file("g")));
  CHECK_FALSE(fixture.storage.is_same_file(path, "/nonexistent"));
}

TEST_CASE("PosixStorage: cache modes set the flags of the descriptor", "[loop][posix_storage]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const auto flags_of = [&](CacheMode cache) {
    OpenFileOptions options = writing();
    options.cache = cache;
    const auto file = fixture.storage.open(path, options);
    REQUIRE_THAT(file, IsOk());
    return ::fcntl((*file)->blocking().descriptor(), F_GETFL);
  };
  CHECK((flags_of(CacheMode::kWriteback) & (O_DIRECT | O_DSYNC | O_NONBLOCK)) == 0);
  CHECK((flags_of(CacheMode::kUnsafe) & (O_DIRECT | O_DSYNC)) == 0);
  CHECK((flags_of(CacheMode::kWritethrough) & (O_DIRECT | O_DSYNC)) == O_DSYNC);
  CHECK((flags_of(CacheMode::kNone) & (O_DIRECT | O_DSYNC)) == O_DIRECT);
  CHECK((flags_of(CacheMode::kDirectsync) & (O_DIRECT | O_DSYNC)) == (O_DIRECT | O_DSYNC));
}

TEST_CASE("PosixStorage: a file system without O_DIRECT is named as the reason",
          "[loop][posix_storage]") {
  Fixture fixture;
  OpenFileOptions options = reading();
  options.cache = CacheMode::kNone;
  CHECK_THAT(fixture.storage.open("/proc/version", options),
             FailsSaying("Could not open '/proc/version': filesystem does not support O_DIRECT"));
}

TEST_CASE("PosixStorage: O_DIRECT files prefer asynchronous requests", "[loop][posix_storage]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  OpenFileOptions options = reading();
  CHECK_FALSE((*fixture.storage.open(path, options))->prefers_async());
  options.cache = CacheMode::kNone;
  CHECK((*fixture.storage.open(path, options))->prefers_async());
}

TEST_CASE("Lock: readers share a file", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const OtherProcess other(path, reading());
  CHECK_THAT(fixture.storage.open(path, reading()), IsOk());
}

TEST_CASE("Lock: a reader is refused while somebody writes, with the hint", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const OtherProcess other(path, writing());
  const auto result = fixture.storage.open(path, reading());
  CHECK_THAT(result, FailsSaying(kSharedWrite));
  const std::string& hint = result.error().hint();
  CHECK(hint.starts_with("Is another process using the image [" + path + "]?\n" +
                         fmt::format("Process {} holds the lock: ", other.pid())));
}

TEST_CASE("Lock: this process is not told to look for itself", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const auto source = fixture.storage.open(path, reading());
  REQUIRE_THAT(source, IsOk());
  const auto result = fixture.storage.open(path, writing());
  CHECK(result.error().hint() == "Is another process using the image [" + path + "]?");
}

TEST_CASE("Lock: writers of a raw image share it, and keep readers of other formats out",
          "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  OpenFileOptions options = writing();
  options.lock = LockMode::kWriteShared;
  const OtherProcess other(path, options);
  CHECK_THAT(fixture.storage.open(path, options), IsOk());
  CHECK_THAT(fixture.storage.open(path, reading(LockMode::kForceShare)), IsOk());
  CHECK_THAT(fixture.storage.open(path, reading(LockMode::kReadData)), IsOk());
  CHECK_THAT(fixture.storage.open(path, reading()), FailsSaying(kSharedWrite));
  CHECK_THAT(fixture.storage.open(path, reading(LockMode::kDescribe)), FailsSaying(kSharedWrite));
}

TEST_CASE("Lock: no lock is no obstacle and meets none", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const OtherProcess other(path, writing());
  CHECK_THAT(fixture.storage.open(path, reading(LockMode::kNone)), IsOk());
}

TEST_CASE("Lock: force share reads what somebody writes, and is for reading only",
          "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const OtherProcess other(path, writing());
  CHECK_THAT(fixture.storage.open(path, reading(LockMode::kForceShare)), IsOk());
  OpenFileOptions options = writing();
  options.lock = LockMode::kForceShare;
  CHECK_THAT(fixture.storage.open(path, options),
             FailsSaying("force-share=on can only be used with read-only images"));
}

TEST_CASE("Lock: a writer is refused while somebody reads or writes", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const bool other_writes = GENERATE(false, true);
  const OtherProcess other(path, other_writes ? writing() : reading());
  CHECK_THAT(fixture.storage.open(path, writing()), FailsSaying(kWrite));
}

TEST_CASE("Lock: a writer is let in while somebody reads with force share", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const OtherProcess other(path, reading(LockMode::kForceShare));
  CHECK_THAT(fixture.storage.open(path, writing()), IsOk());
}

TEST_CASE("Lock: creating over a file in use fails and leaves its bytes", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const bool other_writes = GENERATE(false, true);
  const OtherProcess other(path, other_writes ? writing() : reading());
  const auto result = fixture.storage.create(path, CacheMode::kUnsafe);
  CHECK_THAT(result, FailsSaying(kWrite));
  CHECK(result.error().hint().starts_with("Is another process using the image [" + path + "]?\n"));
  CHECK(test::read_file(path) == pattern(0, 8192));
}

TEST_CASE("Lock: the same process cannot create over what it reads", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.existing_file();
  const auto source = fixture.storage.open(path, reading());
  REQUIRE_THAT(source, IsOk());
  CHECK_THAT(fixture.storage.create(path, CacheMode::kUnsafe), FailsSaying(kWrite));
  CHECK(test::read_file(path) == pattern(0, 8192));
}

TEST_CASE("Lock: who created a file keeps others out until it is closed", "[loop][file_lock]") {
  Fixture fixture;
  const std::string path = fixture.directory.file("new");
  {
    const auto target = fixture.storage.create(path, CacheMode::kUnsafe);
    REQUIRE_THAT(target, IsOk());
    CHECK_THAT(fixture.storage.open(path, reading()), FailsSaying(kSharedWrite));
    CHECK_THAT(fixture.storage.create(path, CacheMode::kUnsafe), FailsWith(EAGAIN));
  }
  CHECK_THAT(fixture.storage.open(path, reading()), IsOk());
}

}  // namespace imgconv
