#include "loop/uring_file.h"

#include <cerrno>
#include <utility>

#include "loop/posix_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Results by which the kernel says "not now" or "not this way": the pool then does the rest.
bool wants_the_pool(int result) {
  return result == -EAGAIN || result == -EOPNOTSUPP || result == -ENOSYS;
}

}  // namespace

UringFile::UringFile(std::unique_ptr<PosixFile> file, Uring& ring, Executor& executor)
    : posix_(*file), pool_file_(std::move(file), executor, /*prefers_async=*/true), ring_(ring) {}

Task<Result<size_t>> UringFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  CO_RETURN_IF_ERROR(check_file_range(host_offset, buffer.size()));
  const uint64_t alignment = posix_.request_alignment();
  size_t done = 0;
  while (done < buffer.size()) {
    const std::span<std::byte> rest = buffer.subspan(done);
    if (!posix_.is_aligned_request(host_offset + done, rest)) {
      CO_ASSIGN_OR_RETURN(const size_t tail, co_await pool_file_.read(host_offset + done, rest));
      co_return done + tail;
    }
    const int result = co_await ring_.read(posix_.descriptor(), host_offset + done, rest);
    if (result == -EINTR) continue;
    if (wants_the_pool(result)) {
      CO_ASSIGN_OR_RETURN(const size_t tail, co_await pool_file_.read(host_offset + done, rest));
      co_return done + tail;
    }
    if (result < 0) co_return Error::from_errno(-result);
    done += static_cast<size_t>(result);
    // As in pread_all(): an odd part can only be the end of an O_DIRECT file.
    if (result == 0 || !is_aligned(static_cast<uint64_t>(result), alignment)) break;
  }
  co_return done;
}

Task<Result<void>> UringFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  CO_RETURN_IF_ERROR(check_file_range(host_offset, data.size()));
  if (!posix_.is_direct()) {
    Result<void> result = co_await write_through_ring(host_offset, data);
    co_return result;
  }
  if (!posix_.is_aligned_request(host_offset, data)) {
    co_await begin_alone();
    Result<void> result = co_await pool_file_.write(host_offset, data);
    end_alone();
    co_return result;
  }
  // Who came first goes first, so that a stream of aligned writes starves nobody.
  while (is_writing_alone_ || !write_turn_.is_empty()) co_await write_turn_.wait();
  ++ring_writes_;
  Result<void> result = co_await write_through_ring(host_offset, data);
  --ring_writes_;
  if (ring_writes_ == 0) write_turn_.wake_all();
  co_return result;
}

Task<void> UringFile::begin_alone() {
  while (is_writing_alone_ || ring_writes_ > 0) co_await write_turn_.wait();
  is_writing_alone_ = true;
}

void UringFile::end_alone() {
  is_writing_alone_ = false;
  write_turn_.wake_all();
}

Task<Result<void>> UringFile::write_through_ring(uint64_t host_offset,
                                                 std::span<const std::byte> data) {
  size_t done = 0;
  while (done < data.size()) {
    const std::span<const std::byte> rest = data.subspan(done);
    const int result = co_await ring_.write(posix_.descriptor(), host_offset + done, rest);
    if (result == -EINTR) continue;
    // A short write of O_DIRECT may leave an odd rest, which the blocking file can bounce.
    const bool is_odd_rest =
        result > 0 && !posix_.is_aligned_request(host_offset + done + static_cast<size_t>(result),
                                                 rest.subspan(static_cast<size_t>(result)));
    if (wants_the_pool(result) || is_odd_rest) {
      done += result > 0 ? static_cast<size_t>(result) : 0;
      Result<void> tail = co_await pool_file_.write(host_offset + done, data.subspan(done));
      co_return tail;
    }
    if (result < 0) co_return Error::from_errno(-result);
    if (result == 0) co_return Error::from_errno(ENOSPC);
    done += static_cast<size_t>(result);
  }
  co_return ok();
}

Task<Result<void>> UringFile::flush() {
  if (posix_.ignores_flush()) co_return ok();
  const int result = co_await ring_.data_sync(posix_.descriptor());
  if (result >= 0) co_return ok();
  if (result == -EINTR || wants_the_pool(result)) {
    Result<void> flushed = co_await pool_file_.flush();
    co_return flushed;
  }
  co_return Error::from_errno(-result);
}

Task<Result<void>> UringFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  const uint64_t alignment = posix_.request_alignment();
  if (is_aligned(host_offset, alignment) && is_aligned(length, alignment)) {
    Result<void> result = co_await pool_file_.write_zeroes(host_offset, length, flags);
    co_return result;
  }
  co_await begin_alone();
  Result<void> result = co_await pool_file_.write_zeroes(host_offset, length, flags);
  end_alone();
  co_return result;
}

Task<Result<void>> UringFile::discard(uint64_t host_offset, uint64_t length) {
  return pool_file_.discard(host_offset, length);
}

Task<Result<void>> UringFile::truncate(uint64_t length) { return pool_file_.truncate(length); }

Task<Result<void>> UringFile::allocate(uint64_t host_offset, uint64_t length) {
  return pool_file_.allocate(host_offset, length);
}

Task<Result<FileExtent>> UringFile::block_status(uint64_t host_offset, uint64_t length) {
  return pool_file_.block_status(host_offset, length);
}

Result<FileStat> UringFile::stat() { return pool_file_.stat(); }
const std::string& UringFile::name() const { return pool_file_.name(); }
BlockingFile& UringFile::blocking() { return pool_file_.blocking(); }
bool UringFile::prefers_async() const { return true; }

}  // namespace imgconv
