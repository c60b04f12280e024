// File: asynchronous positioned I/O for coroutines on the loop thread.
//
// PoolFile brings a BlockingFile's calls to a pool, UringFile reads and writes through io_uring.
// Contract (tests/loop/file_contract_test.cc runs on every implementation): as in BlockingFile.
// Buffers must stay alive until the task finished. Requests may complete in any order; who needs an
// order awaits one before starting the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "loop/blocking_file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  virtual Task<Result<size_t>> read(uint64_t host_offset, std::span<std::byte> buffer) = 0;
  virtual Task<Result<void>> write(uint64_t host_offset, std::span<const std::byte> data) = 0;
  virtual Task<Result<void>> write_zeroes(uint64_t host_offset, uint64_t length,
                                          ZeroFlags flags) = 0;
  virtual Task<Result<void>> discard(uint64_t host_offset, uint64_t length) = 0;
  virtual Task<Result<void>> flush() = 0;
  virtual Task<Result<void>> truncate(uint64_t length) = 0;
  virtual Task<Result<void>> allocate(uint64_t host_offset, uint64_t length) = 0;
  virtual Task<Result<FileExtent>> block_status(uint64_t host_offset, uint64_t length) = 0;
  /// Cheap enough for the loop thread (fstat).
  virtual Result<FileStat> stat() = 0;
  virtual const std::string& name() const = 0;
  /// The same bytes through blocking calls, for jobs that run on a pool thread. Never null; lives
  /// as long as this File.
  virtual BlockingFile& blocking() = 0;
  /// True when depth pays more than cache locality (ring, O_DIRECT): the plan then reads and writes
  /// through this interface instead of fusing both into one pool job.
  virtual bool prefers_async() const = 0;
};

}  // namespace imgconv
