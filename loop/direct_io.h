// DirectIo: requests of any offset, length and memory on a descriptor opened with O_DIRECT.
//
// Aligned requests pass straight through. Others go through an aligned bounce buffer; a write then
// reads the blocks that it covers only in part, changes them and writes them back. Any thread:
// such a write excludes all others for as long as it takes, as two of them may share a block and as
// it may have to cut off the padding behind the end of the file. Writes that bypass this object (a
// ring) must not run at the same time as unaligned ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <shared_mutex>
#include <span>

#include "loop/result.h"

namespace imgconv {

class DirectIo {
 public:
  /// Borrows the descriptor. `can_truncate`: a regular file, whose length need not be aligned.
  DirectIo(int descriptor, uint64_t alignment, bool can_truncate);

  uint64_t alignment() const { return alignment_; }
  bool is_aligned_request(uint64_t host_offset, std::span<const std::byte> memory) const;

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer);
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data);

 private:
  Result<size_t> read_bounced(uint64_t host_offset, std::span<std::byte> buffer);
  Result<void> write_bounced(uint64_t host_offset, std::span<const std::byte> data);
  Result<void> load_block(uint64_t host_offset, std::span<std::byte> block);

  const int descriptor_;
  const uint64_t alignment_;
  const bool can_truncate_;
  // Taken shared by aligned writes and exclusively by bounced ones.
  std::shared_mutex write_mutex_;
};

/// The alignment that the kernel asks of O_DIRECT requests on `descriptor`, at least 512.
uint64_t probe_direct_io_alignment(int descriptor, bool is_block_device);

}  // namespace imgconv
