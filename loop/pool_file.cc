#include "loop/pool_file.h"

#include <utility>

#include "loop/units.h"

namespace imgconv {
namespace {

// A trip to the pool and back costs as much as copying this from the page cache. Tables are read
// this way; bulk data is read by jobs that call BlockingFile themselves.
constexpr size_t kMaxInlineRead = 256 * kKiB;

}  // namespace

PoolFile::PoolFile(std::unique_ptr<BlockingFile> blocking, Executor& executor, bool prefers_async)
    : blocking_(std::move(blocking)), executor_(executor), prefers_async_(prefers_async) {}

Task<Result<size_t>> PoolFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  BlockingFile& file = *blocking_;
  if (buffer.size() <= kMaxInlineRead && file.read_if_cached(host_offset, buffer)) {
    co_return buffer.size();
  }
  auto result = co_await run_on(
      executor_, [&file, host_offset, buffer] { return file.read(host_offset, buffer); });
  co_return result;
}

Task<Result<void>> PoolFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(
      executor_, [&file, host_offset, data] { return file.write(host_offset, data); });
  co_return result;
}

Task<Result<void>> PoolFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(executor_, [&file, host_offset, length, flags] {
    return file.write_zeroes(host_offset, length, flags);
  });
  co_return result;
}

Task<Result<void>> PoolFile::discard(uint64_t host_offset, uint64_t length) {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(
      executor_, [&file, host_offset, length] { return file.discard(host_offset, length); });
  co_return result;
}

Task<Result<void>> PoolFile::flush() {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(executor_, [&file] { return file.flush(); });
  co_return result;
}

Task<Result<void>> PoolFile::truncate(uint64_t length) {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(executor_, [&file, length] { return file.truncate(length); });
  co_return result;
}

Task<Result<void>> PoolFile::allocate(uint64_t host_offset, uint64_t length) {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(
      executor_, [&file, host_offset, length] { return file.allocate(host_offset, length); });
  co_return result;
}

Task<Result<FileExtent>> PoolFile::block_status(uint64_t host_offset, uint64_t length) {
  BlockingFile& file = *blocking_;
  auto result = co_await run_on(
      executor_, [&file, host_offset, length] { return file.block_status(host_offset, length); });
  co_return result;
}

Result<FileStat> PoolFile::stat() { return blocking_->stat(); }
const std::string& PoolFile::name() const { return blocking_->name(); }
BlockingFile& PoolFile::blocking() { return *blocking_; }
bool PoolFile::prefers_async() const { return prefers_async_; }

}  // namespace imgconv
