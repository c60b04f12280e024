// HookedFile: a BlockingFile around another one that does the work, and that tells a hook of every
// call first. The hook may count, record or refuse: FaultScript, TraceLog and CrashLog are hooks.
//
// The hook is apart from the file, since one hook usually watches every file of a test; it must
// outlive them. As safe on any thread as the hook is.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "loop/blocking_file.h"
#include "tests/support/file_operation.h"

namespace imgconv::test {

/// One call. `length` is 0 and `host_offset` the new length for truncate.
struct FileCall {
  const std::string& file;
  FileOperation operation = FileOperation::kRead;
  uint64_t host_offset = 0;
  uint64_t length = 0;
  /// Of kWrite only.
  std::span<const std::byte> data;
};

class FileHook {
 public:
  FileHook() = default;
  FileHook(const FileHook&) = delete;
  FileHook& operator=(const FileHook&) = delete;
  virtual ~FileHook() = default;

  /// An error is what the caller gets; the call is then not made.
  virtual Result<void> before(const FileCall& call) = 0;
  /// Where reads see the end of the file at the latest.
  virtual uint64_t readable_end() const { return UINT64_MAX; }
};

class HookedFile final : public BlockingFile {
 public:
  HookedFile(std::unique_ptr<BlockingFile> inner, FileHook& hook);

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
  const std::string& name() const override { return inner_->name(); }

 private:
  Result<void> ask(FileOperation operation, uint64_t host_offset, uint64_t length,
                   std::span<const std::byte> data = {});

  const std::unique_ptr<BlockingFile> inner_;
  FileHook& hook_;
};

}  // namespace imgconv::test
