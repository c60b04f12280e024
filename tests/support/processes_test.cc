// TempDir and run_command.
#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/support/mem_file.h"
#include "tests/support/qemu_img.h"
#include "tests/support/temp_dir.h"

namespace imgconv::test {
namespace {

TEST_CASE("TempDir: is removed with its content", "[support]") {
  std::string path;
  {
    const TempDir directory;
    path = directory.path();
    write_file(directory.file("a"), to_bytes("hello"));
    CHECK(read_file(directory.file("a")) == to_bytes("hello"));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("run_command: captures both streams and the exit status", "[support]") {
  const CommandResult result = run_command({"sh", "-c", "echo out; echo err >&2; exit 3"});
  CHECK(result.exit_status == 3);
  CHECK(result.out == "out\n");
  CHECK(result.err == "err\n");
}

TEST_CASE("run_command: runs in the directory it is given", "[support]") {
  const TempDir directory;
  CHECK(run_command({"pwd", "-P"}, directory.path()).out ==
        std::filesystem::canonical(directory.path()).string() + "\n");
}

TEST_CASE("run_command: a signal and a missing program are failures", "[support]") {
  CHECK(run_command({"sh", "-c", "kill -9 $$"}).exit_status == 128 + 9);
  CHECK(run_command({"imgconv-no-such-program"}).exit_status == 127);
}

}  // namespace
}  // namespace imgconv::test
