// TraceFile: a BlockingFile that records what is done to another one, so that a test can assert
// what was not done ("no write for a hole") and in which order ("refcounts before L2").
//
// The log is apart from the file, since one log usually covers every file of a test; it must
// outlive them. An operation is recorded before it is done. Both are safe on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loop/blocking_file.h"
#include "tests/support/file_operation.h"

namespace imgconv::test {

struct TraceEntry {
  std::string file;
  FileOperation operation = FileOperation::kRead;
  uint64_t host_offset = 0;
  uint64_t length = 0;

  uint64_t host_end() const { return host_offset + length; }
};

class TraceLog {
 public:
  /// In the order of the calls.
  std::vector<TraceEntry> entries(OperationSet kinds = kAnyOperation) const;
  /// By offset, then length: for work whose order does not matter.
  std::vector<TraceEntry> sorted(OperationSet kinds = kAnyOperation) const;
  uint64_t count(OperationSet kinds) const;
  /// Sum of the lengths.
  uint64_t bytes(OperationSet kinds) const;
  /// True when some matching operation touches the range.
  bool touches(OperationSet kinds, uint64_t host_offset, uint64_t length) const;
  void clear();
  void record(TraceEntry entry);

 private:
  mutable std::mutex mutex_;
  std::vector<TraceEntry> entries_;  // Guarded by mutex_.
};

/// "write 512+4096", for messages and whole-list comparisons.
std::string to_string(const TraceEntry& entry);
std::vector<std::string> to_strings(const std::vector<TraceEntry>& entries);

class TraceFile final : public BlockingFile {
 public:
  TraceFile(std::unique_ptr<BlockingFile> inner, TraceLog& log);

  Result<size_t> read(uint64_t host_offset, std::span<std::byte> buffer) override;
  Result<void> write(uint64_t host_offset, std::span<const std::byte> data) override;
  Result<void> write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) override;
  Result<void> discard(uint64_t host_offset, uint64_t length) override;
  Result<void> flush() override;
  Result<void> truncate(uint64_t length) override;
  Result<void> allocate(uint64_t host_offset, uint64_t length) override;
  Result<FileExtent> block_status(uint64_t host_offset, uint64_t length) override;
  Result<FileStat> stat() override;
  void will_need(uint64_t host_offset, uint64_t length) override;
  int descriptor() const override { return -1; }
  const std::string& name() const override { return inner_->name(); }

 private:
  void record(FileOperation operation, uint64_t host_offset, uint64_t length);

  const std::unique_ptr<BlockingFile> inner_;
  TraceLog& log_;
};

}  // namespace imgconv::test
