#include "loop/runtime.h"

#include <catch2/catch.hpp>
#include <vector>

#include "loop/try.h"
#include "tests/support/matchers.h"
#include "tests/support/pattern.h"
#include "tests/support/temp_dir.h"

namespace imgconv {
namespace {

using test::IsOk;
using test::pattern;

RuntimeOptions with(IoBackendKind backend) {
  RuntimeOptions options;
  options.backend = backend;
  options.pool_threads = 2;
  return options;
}

Task<Result<bool>> copy_through(Storage& storage, std::string path, CacheMode cache) {
  CO_ASSIGN_OR_RETURN(std::unique_ptr<File> file, storage.create(path, cache));
  const std::vector<std::byte> data = pattern(0, 300'000);
  CO_RETURN_IF_ERROR(co_await file->write(0, data));
  CO_RETURN_IF_ERROR(co_await file->flush());
  std::vector<std::byte> buffer(data.size());
  CO_ASSIGN_OR_RETURN(const size_t count, co_await file->read(0, buffer));
  co_return count == data.size() && buffer == data;
}

}  // namespace

TEST_CASE("Runtime: every backend reads back what it wrote in every cache mode",
          "[loop][runtime]") {
  const test::TempDir directory;
  const auto backend = GENERATE(IoBackendKind::kAuto, IoBackendKind::kPool, IoBackendKind::kUring);
  const auto cache = GENERATE(CacheMode::kWriteback, CacheMode::kNone, CacheMode::kWritethrough,
                              CacheMode::kDirectsync, CacheMode::kUnsafe);
  Runtime runtime(with(backend));
  const Result<bool> is_equal =
      runtime.run(copy_through(runtime.storage(), directory.file("f"), cache));
  REQUIRE_THAT(is_equal, IsOk());
  CHECK(*is_equal);
}

TEST_CASE("Runtime: auto serves cached files by the pool, whose jobs can be fused",
          "[loop][runtime]") {
  const test::TempDir directory;
  Runtime runtime(with(IoBackendKind::kAuto));
  const auto file = runtime.storage().create(directory.file("f"), CacheMode::kUnsafe);
  REQUIRE_THAT(file, IsOk());
  CHECK_FALSE((*file)->prefers_async());
}

TEST_CASE("Runtime: the note names the backend that serves", "[loop][runtime]") {
  const Runtime pool(with(IoBackendKind::kPool));
  CHECK(pool.backend_note() == "I/O backend: thread pool");
  const Runtime ring(with(IoBackendKind::kUring));
  const std::string& note = ring.backend_note();
  const std::string refused = "I/O backend: thread pool (io_uring is not available: ";
  CHECK((note == "I/O backend: io_uring" || note.compare(0, refused.size(), refused) == 0));
}

TEST_CASE("Runtime: zero threads means one per core, at most 16", "[loop][runtime]") {
  const Runtime runtime((RuntimeOptions()));
  CHECK(runtime.pool_threads() >= 1);
  CHECK(runtime.pool_threads() <= 16);
}

}  // namespace imgconv
