// MemFile: a BlockingFile in memory, for tests that want no file system.
//
// The bytes live in a MemContent, which several MemFiles may show at once, so that a file closed
// and opened again holds what was written. Sparse by pages of 4 KiB: files of TiB cost only what
// was written, and block_status() reports written pages as data. Both are safe on any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loop/blocking_file.h"

namespace imgconv::test {

/// Facts of a file that a test may want different from those of a plain regular file.
struct MemFileTraits {
  /// Reads and writes whose offset, length or memory is no multiple of it fail with EINVAL.
  uint64_t request_alignment = 1;
  /// The length is fixed: writing behind it is ENOSPC, truncate() EINVAL.
  bool is_block_device = false;
  /// Pages that may be allocated, in bytes; more is ENOSPC.
  std::optional<uint64_t> capacity;
};

class MemContent {
 public:
  static constexpr uint64_t kPageSize = 4096;

  explicit MemContent(MemFileTraits traits = {});

  /// Copies what is there and returns its length; fewer bytes than asked only at the end.
  size_t read(uint64_t host_offset, std::span<std::byte> buffer) const;
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data);
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, bool may_unmap);
  Result<void> truncate(uint64_t length);
  Result<void> allocate(uint64_t host_offset, uint64_t length);
  FileExtent block_status(uint64_t host_offset, uint64_t length) const;
  FileStat stat() const;

  /// The whole file as one block. Requires: the file is small.
  std::vector<std::byte> bytes() const;
  /// Replaces the file by `bytes`, page by page; all-zero pages become holes.
  void assign(std::span<const std::byte> bytes);
  uint64_t length() const;
  /// Sets the length of a block device, which truncate() refuses.
  void set_device_length(uint64_t length);
  const MemFileTraits& traits() const { return traits_; }

 private:
  using Page = std::array<std::byte, kPageSize>;

  // The functions below require the mutex.
  Result<void> grow_to(uint64_t end);
  Page* find_or_add_page(uint64_t page_index);
  Result<void> write_bytes(uint64_t host_offset, std::span<const std::byte> data);
  Result<void> zero_bytes(uint64_t host_offset, uint64_t length);
  void drop_pages(uint64_t first_page, uint64_t end_page);

  const MemFileTraits traits_;
  mutable std::mutex mutex_;
  // Guarded by mutex_, both; the key is host_offset / kPageSize.
  std::map<uint64_t, std::unique_ptr<Page>> pages_;
  uint64_t length_ = 0;
};

class MemFile final : public BlockingFile {
 public:
  /// A file of its own, empty and writable.
  explicit MemFile(std::string name = "mem");
  /// One more open handle of `content`. Shared, since a handle must not outlive the bytes and tests
  /// drop storages and handles in any order.
  MemFile(std::string name, std::shared_ptr<MemContent> content, bool writable = true);

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override;
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override;
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override;
  Result<void> discard(uint64_t host_offset, uint64_t length) override;
  Result<void> flush() override;
  Result<void> truncate(uint64_t length) override;
  Result<void> allocate(uint64_t host_offset, uint64_t length) override;
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override;
  Result<FileStat> stat() override;
  int descriptor() const override { return -1; }
  const std::string& name() const override { return name_; }

  const std::shared_ptr<MemContent>& content() const { return content_; }

 private:
  Result<void> check_writable() const;
  Result<void> check_alignment(uint64_t host_offset, std::span<const std::byte> memory) const;

  const std::string name_;
  const std::shared_ptr<MemContent> content_;
  const bool is_writable_;
};

/// Bytes of a text, for images and files of tests.
std::vector<std::byte> to_bytes(std::string_view text);

}  // namespace imgconv::test
