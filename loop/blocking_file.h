// BlockingFile: positioned I/O by calls that block, usable from any thread at the same time.
//
// The bottom of all file access. PosixFile (loop/posix_file.h) is the real one; MemFile, FaultFile
// and TraceFile of the tests stand in for it or wrap it. Coroutines use File (loop/file.h), which
// brings these calls to a pool or a ring; a fused copy job on a pool thread calls them directly.
// Offsets and lengths are bytes of the host file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "loop/result.h"

namespace imgconv {

/// What a range of a file holds, as SEEK_DATA/SEEK_HOLE tell. `length` > 0 except at the end.
struct FileExtent {
  uint64_t host_offset = 0;
  uint64_t length = 0;
  bool is_data = false;
};

/// How write_zeroes() may reach its end.
struct ZeroFlags {
  /// The range may become a hole.
  bool may_unmap = false;
  /// Fail with ENOTSUP rather than write zero bytes one by one.
  bool no_fallback = false;
};

/// Facts that do not change while a file is open, but for the two sizes, which are of the moment.
struct FileStat {
  uint64_t length = 0;
  /// Bytes on disk (st_blocks * 512).
  uint64_t allocated = 0;
  bool is_block_device = false;
  /// Offsets, lengths and memory must be multiples of this: 1, or the O_DIRECT alignment.
  uint64_t request_alignment = 1;
  /// A range never written reads as zeros after truncate() extended the file (regular files).
  bool extends_with_zeros = true;
  /// flush() promises nothing (cache mode unsafe): no order of writes can be relied on.
  bool ignores_flush = false;
};

/// One of several writes that belong together.
struct FileWrite {
  uint64_t host_offset = 0;
  std::span<const std::byte> data;
};

class BlockingFile {
 public:
  BlockingFile() = default;
  BlockingFile(const BlockingFile&) = delete;
  BlockingFile& operator=(const BlockingFile&) = delete;
  virtual ~BlockingFile() = default;

  /// Fills `buffer` from `host_offset`. Returns the bytes read, fewer than asked only at the end of
  /// the file. Retries EINTR and short reads.
  virtual Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) = 0;
  /// As read(), for all of `buffer` or nothing: nothing where it would have to wait for a device,
  /// or where that is not known. The buffer's content is undefined then.
  virtual bool read_if_cached(uint64_t host_offset, std::span<std::byte> buffer) {
    static_cast<void>(host_offset);
    static_cast<void>(buffer);
    return false;
  }
  /// Writes all of `data`. Retries EINTR and short writes.
  virtual Result<void> write(uint64_t host_offset, std::span<const std::byte> data) = 0;
  /// As write() of each in this order, but other threads' writes wait until the last one is done
  /// where the kernel takes one at a time. Ends at the first error.
  virtual Result<void> write_all(std::span<const FileWrite> writes) {
    for (const FileWrite& one : writes) {
      Result<void> outcome = write(one.host_offset, one.data);
      if (!outcome) return outcome;
    }
    return ok();
  }
  /// Makes the range read as zeros; extends the file if the range ends behind it.
  virtual Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) = 0;
  /// Gives the range back to the file system; its content is then undefined. ENOTSUP is an answer.
  virtual Result<void> discard(uint64_t host_offset, uint64_t length) = 0;
  /// Everything written before is on the device when it returns.
  virtual Result<void> flush() = 0;
  virtual Result<void> truncate(uint64_t length) = 0;
  /// Allocates the range without changing what is read (posix_fallocate).
  virtual Result<void> allocate(uint64_t host_offset, uint64_t length) = 0;
  /// The extent at `host_offset`, at most `length` long. Beyond the end: a hole. A file system that
  /// cannot tell reports data.
  virtual Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) = 0;
  virtual Result<FileStat> stat() = 0;
  /// Descriptor for the ring and for copy offload; -1 where there is none.
  virtual int descriptor() const = 0;
  /// The name it was opened by, for messages and `info`.
  virtual const std::string& name() const = 0;
};

}  // namespace imgconv
