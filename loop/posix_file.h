// PosixFile: BlockingFile over a descriptor of a regular file or a block device.
//
// Takes requests of any alignment, also with O_DIRECT (loop/direct_io.h), and does the durability
// that the cache mode asks for. Opening by name, locks and cache modes are PosixStorage's. Any
// thread at the same time: it holds no file position and no state that changes.
#pragma once

#include <sys/stat.h>
#include <sys/statfs.h>

#include <memory>
#include <mutex>
#include <string>

#include "loop/blocking_file.h"
#include "loop/direct_io.h"
#include "loop/unique_fd.h"

namespace imgconv {

struct PosixFileOptions {
  /// The descriptor was opened with O_DIRECT.
  bool is_direct = false;
  /// Opened with O_DSYNC: what changes the file other than by writing is flushed at once too.
  bool is_synchronous = false;
  /// flush() does nothing (cache mode unsafe).
  bool ignores_flush = false;
};

class PosixFile final : public BlockingFile {
 public:
  /// Requires: the descriptor is that of a regular file or a block device.
  static Result<std::unique_ptr<PosixFile>> adopt(UniqueFd descriptor, std::string name,
                                                  const PosixFileOptions& options);

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override;
  bool read_if_cached(uint64_t host_offset, std::span<std::byte> buffer) override;
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override;
  Result<void> write_all(std::span<const FileWrite> writes) override;
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override;
  Result<void> discard(uint64_t host_offset, uint64_t length) override;
  Result<void> flush() override;
  Result<void> truncate(uint64_t length) override;
  Result<void> allocate(uint64_t host_offset, uint64_t length) override;
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override;
  Result<FileStat> stat() override;
  int descriptor() const override { return descriptor_.get(); }
  const std::string& name() const override { return name_; }

  bool is_direct() const { return direct_ != nullptr; }
  bool ignores_flush() const { return options_.ignores_flush; }
  /// 1 without O_DIRECT.
  uint64_t request_alignment() const { return direct_ != nullptr ? direct_->alignment() : 1; }
  /// Whether the kernel takes the request as it is: always, unless O_DIRECT forbids.
  bool is_aligned_request(uint64_t host_offset, std::span<const std::byte> memory) const {
    return direct_ == nullptr || direct_->is_aligned_request(host_offset, memory);
  }

 private:
  PosixFile(UniqueFd descriptor, std::string name, const PosixFileOptions& options,
            const struct stat& status);

  Result<void> zero_without_writing(uint64_t host_offset, uint64_t length, ZeroFlags flags);
  Result<void> zero_by_writing(uint64_t host_offset, uint64_t length);
  /// Whether the kernel lets one buffered write into this file at a time.
  bool is_written_in_turns() const {
    return direct_ == nullptr && !is_block_device_ && !options_.is_synchronous;
  }
  Result<void> write_buffered(uint64_t host_offset, std::span<const std::byte> data);
  /// Finds room on the disk for what is written next, where that makes writing faster (L14).
  void allocate_ahead(uint64_t host_offset, size_t length);
  Result<uint64_t> length() const;
  Result<void> sync_if_synchronous();

  const UniqueFd descriptor_;
  const std::string name_;
  const PosixFileOptions options_;
  const bool is_block_device_;
  // statfs's number of it, since tmpfs reads and ext4 writes in ways of their own.
  const decltype(statfs::f_type) file_system_;
  // When it was opened: nearly all that is written needs new room.
  const bool held_little_;
  // What ioctls on the device need; 1 for regular files.
  uint64_t device_block_size_ = 1;
  // Null without O_DIRECT.
  std::unique_ptr<DirectIo> direct_;
  // Held while a buffered write is in the kernel (L7). Guards nothing of ours.
  std::mutex write_turn_;
};

}  // namespace imgconv
