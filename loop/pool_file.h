// PoolFile: File over a BlockingFile, one pool job per request; short reads that the page cache can
// answer are answered at once.
//
// The plain way to do file I/O and the reference for every other: whatever the BlockingFile answers
// is the answer. It owns the BlockingFile and borrows the executor, which must outlive it. Loop
// thread only; the blocking calls themselves run wherever the executor runs them.
#pragma once

#include <memory>

#include "loop/executor.h"
#include "loop/file.h"

namespace imgconv {

class PoolFile final : public File {
 public:
  /// `prefers_async`: see File::prefers_async(); true for O_DIRECT files.
  PoolFile(std::unique_ptr<BlockingFile> blocking, Executor& executor, bool prefers_async = false);

  Task<Result<size_t>> read(uint64_t host_offset, std::span<std::byte> buffer) override;
  Task<Result<void>> write(uint64_t host_offset, std::span<const std::byte> data) override;
  Task<Result<void>> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override;
  Task<Result<void>> discard(uint64_t host_offset, uint64_t length) override;
  Task<Result<void>> flush() override;
  Task<Result<void>> truncate(uint64_t length) override;
  Task<Result<void>> allocate(uint64_t host_offset, uint64_t length) override;
  Task<Result<FileExtent>> block_status(uint64_t host_offset, uint64_t length) override;
  Result<FileStat> stat() override;
  const std::string& name() const override;
  BlockingFile& blocking() override;
  bool prefers_async() const override;

 private:
  const std::unique_ptr<BlockingFile> blocking_;
  Executor& executor_;
  const bool prefers_async_;
};

}  // namespace imgconv
