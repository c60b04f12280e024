// UringFile: File whose reads, writes and flushes go through the ring; everything else, and what
// the kernel will not take as it is, goes to the pool like PoolFile's.
//
// Requests that O_DIRECT forbids are bounced on the pool, and such a write runs alone (see
// loop/direct_io.h). It owns the PosixFile and borrows ring and executor, which must outlive it.
// Loop thread only.
#pragma once

#include <memory>

#include "loop/co_queue.h"
#include "loop/executor.h"
#include "loop/file.h"
#include "loop/pool_file.h"
#include "loop/posix_file.h"
#include "loop/uring.h"

namespace imgconv {

class UringFile final : public File {
 public:
  UringFile(std::unique_ptr<PosixFile> file, Uring& ring, Executor& executor);

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
  Task<Result<void>> write_through_ring(uint64_t host_offset, std::span<const std::byte> data);
  Task<void> begin_alone();
  void end_alone();

  // Owned by pool_file_.
  PosixFile& posix_;
  PoolFile pool_file_;
  Uring& ring_;

  // A change to part of a block of an O_DIRECT file excludes the writes in the ring: it may
  // share a block with them, or cut off padding that they have extended the file over.
  unsigned ring_writes_ = 0;
  bool is_writing_alone_ = false;
  CoQueue write_turn_;
};

}  // namespace imgconv
