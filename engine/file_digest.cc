#include "engine/file_digest.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "engine/message_digest.h"
#include "loop/executor.h"
#include "loop/interrupt.h"
#include "loop/io_buffer.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Bytes hashed by one job; a signal is noticed in between.
constexpr uint64_t kMaxPerJob = 64 * kMiB;
/// Stays in the core's cache between reading and hashing.
constexpr uint64_t kBufferBytes = 256 * kKiB;

/// Hashes [begin, begin + length), all of one kind.
Result<void> add_range(BlockingFile& file, uint64_t begin, uint64_t length, bool is_data,
                       std::vector<MessageDigest>& digests) {
  if (!is_data) {
    for (MessageDigest& digest : digests) digest.add_zeros(length);
    return ok();
  }
  IoBuffer buffer(kBufferBytes);
  for (uint64_t done = 0; done < length;) {
    const std::span<std::byte> part =
        buffer.span().first(std::min<uint64_t>(length - done, kBufferBytes));
    ASSIGN_OR_RETURN(const size_t got, file.read(begin + done, part));
    if (got < part.size()) return Error::from_errno(EIO, "the file became shorter");
    for (MessageDigest& digest : digests) digest.add(part);
    done += got;
  }
  return ok();
}

Task<Result<void>> add_file(File& file, Executor& executor, std::vector<MessageDigest>& digests) {
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  for (uint64_t at = 0; at < stat.length;) {
    if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
    CO_ASSIGN_OR_RETURN(const FileExtent extent,
                        co_await file.block_status(at, std::min(stat.length - at, kMaxPerJob)));
    const auto add = [&file, &extent, &digests] {
      return add_range(file.blocking(), extent.host_offset, extent.length, extent.is_data, digests);
    };
    CO_RETURN_IF_ERROR(co_await run_on(executor, add));
    at += extent.length;
  }
  co_return ok();
}

}  // namespace

Task<Result<std::vector<std::string>>> digest_file(Storage& storage, const std::string& name,
                                                   const std::vector<std::string>& algorithms) {
  std::vector<MessageDigest> digests;
  for (const std::string& algorithm : algorithms) {
    CO_ASSIGN_OR_RETURN(MessageDigest digest, MessageDigest::make(algorithm));
    digests.push_back(std::move(digest));
  }
  OpenFileOptions options;
  options.lock = LockMode::kForceShare;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, storage.open(name, options));
  const Result<void> added = co_await add_file(*file, storage.executor(), digests);
  if (!added) co_return Error(added.error()).within(fmt::format("Could not digest '{}'", name));
  std::vector<std::string> values;
  for (MessageDigest& digest : digests) values.push_back(to_hex(digest.finish()));
  co_return values;
}

}  // namespace imgconv
