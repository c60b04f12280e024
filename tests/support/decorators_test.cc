// FaultFile, TraceFile and MemStorage, which put them around files.
#include <catch2/catch.hpp>
#include <cerrno>

#include "tests/support/fault_file.h"
#include "tests/support/matchers.h"
#include "tests/support/mem_storage.h"
#include "tests/support/pattern.h"
#include "tests/support/trace_file.h"

namespace imgconv::test {
namespace {

using Op = FileOperation;

FaultFile faulty(FaultScript& script) { return {std::make_unique<MemFile>(), script}; }

TEST_CASE("FaultFile: fails the nth operation of the named kinds and only that", "[support]") {
  FaultScript script;
  FaultFile file = faulty(script);
  script.fail_nth({Op::kWrite, Op::kFlush}, 2, ENOSPC);
  CHECK_THAT(file.truncate(4096), IsOk());
  CHECK_THAT(file.write(0, pattern(0, 10)), IsOk());
  CHECK_THAT(file.flush(), FailsWith(ENOSPC));
  CHECK_THAT(file.flush(), IsOk());
  CHECK(script.fired() == 1);
  CHECK(script.count(Op::kFlush) == 2);
  CHECK(script.count(kAnyOperation) == 4);
}

TEST_CASE("FaultFile: a failed write writes nothing", "[support]") {
  FaultScript script;
  FaultFile file = faulty(script);
  script.fail_always(Op::kWrite, EIO);
  CHECK_THAT(file.write(0, pattern(0, 10)), FailsWith(EIO));
  CHECK(file.stat()->length == 0);
}

TEST_CASE("FaultFile: a bad range fails what touches it", "[support]") {
  FaultScript script;
  FaultFile file = faulty(script);
  REQUIRE_THAT(file.truncate(8192), IsOk());
  script.fail_range(Op::kRead, 1024, 512, EIO);
  std::vector<std::byte> buffer(512);
  CHECK_THAT(file.read(512, buffer), IsOk());
  CHECK_THAT(file.read(1024, buffer), FailsWith(EIO));
  CHECK_THAT(file.read(513, buffer), FailsWith(EIO));
  CHECK_THAT(file.read(1535, buffer), FailsWith(EIO));
  CHECK_THAT(file.read(1536, buffer), IsOk());
  CHECK_THAT(file.read(0, buffer), IsOk());
}

TEST_CASE("FaultFile: reads end where the script cuts them", "[support]") {
  FaultScript script;
  FaultFile file = faulty(script);
  REQUIRE_THAT(file.write(0, pattern(0, 1000)), IsOk());
  script.cut_reads_at(600);
  std::vector<std::byte> buffer(500);
  CHECK(*file.read(400, buffer) == 200);
  CHECK(*file.read(700, buffer) == 0);
}

TEST_CASE("TraceFile: records what was asked in order", "[support]") {
  TraceLog log;
  TraceFile file(std::make_unique<MemFile>("disk"), log);
  REQUIRE_THAT(file.write(4096, pattern(4096, 512)), IsOk());
  REQUIRE_THAT(file.write_zeroes(0, 1024, {}), IsOk());
  REQUIRE_THAT(file.flush(), IsOk());
  CHECK(to_strings(log.entries()) ==
        std::vector<std::string>{"write 4096+512", "write_zeroes 0+1024", "flush 0+0"});
  CHECK(log.entries()[0].file == "disk");
  CHECK(to_strings(log.sorted({Op::kWrite, Op::kWriteZeroes})) ==
        std::vector<std::string>{"write_zeroes 0+1024", "write 4096+512"});
  CHECK(log.bytes(Op::kWrite) == 512);
  CHECK(log.touches(Op::kWrite, 4607, 1));
  CHECK_FALSE(log.touches(Op::kWrite, 4608, 100));
  CHECK_FALSE(log.touches(Op::kWrite, 0, 4096));
}

TEST_CASE("MemStorage: files keep their bytes between opens", "[support]") {
  MemStorage storage;
  const auto created = storage.create("a", CacheMode::kWriteback);
  REQUIRE_THAT(created, IsOk());
  const std::vector<std::byte> bytes = pattern(0, 5000);
  REQUIRE_THAT(run_inline((*created)->write(0, bytes)), IsOk());

  const auto opened = storage.open("a", {});
  REQUIRE_THAT(opened, IsOk());
  CHECK((*opened)->stat()->length == 5000);
  CHECK_THAT(run_inline((*opened)->write(0, bytes)), FailsWith(EBADF));
  CHECK(storage.bytes("a") == bytes);
  REQUIRE_THAT(storage.create("a", CacheMode::kWriteback), IsOk());
  CHECK(storage.bytes("a").empty());
}

TEST_CASE("MemStorage: a missing file is reported as the file driver does", "[support]") {
  MemStorage storage;
  CHECK_THAT(storage.open("no", {}),
             FailsWith(ENOENT, "Could not open 'no': No such file or directory"));
  CHECK_FALSE(storage.exists("no"));
  CHECK_THAT(storage.remove("no"), FailsWith(ENOENT));
}

TEST_CASE("MemStorage: the wrapper sits around every file opened later", "[support]") {
  MemStorage storage;
  TraceLog log;
  storage.set_wrapper([&log](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<TraceFile>(std::move(inner), log);
  });
  const std::unique_ptr<File> file = storage.file("a");
  REQUIRE_THAT(run_inline(file->truncate(100)), IsOk());
  CHECK(log.count(Op::kTruncate) == 1);
}

}  // namespace
}  // namespace imgconv::test
