// FaultFile: a BlockingFile that fails by script, around another one that does the work.
//
// The script is apart from the file, since one script usually rules every file of a test ("fail the
// k-th operation of the whole run"). It must outlive the files. Both are safe on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "loop/blocking_file.h"
#include "tests/support/file_operation.h"

namespace imgconv::test {

class FaultScript {
 public:
  /// The nth matching operation from now on (1 is the next) fails, only that one.
  void fail_nth(OperationSet kinds, uint64_t n, int errno_value);
  /// Every matching operation fails; ENOTSUP for kWriteZeroes, for example.
  void fail_always(OperationSet kinds, int errno_value);
  /// Every matching operation that touches the range fails: bad sectors.
  void fail_range(OperationSet kinds, uint64_t host_offset, uint64_t length, int errno_value);
  /// Reads see the end of the file at `host_offset`.
  void cut_reads_at(uint64_t host_offset);
  /// Forgets rules and counts.
  void reset();

  /// Matching operations so far, failed ones included.
  uint64_t count(OperationSet kinds) const;
  /// Failures injected so far.
  uint64_t fired() const;

 private:
  friend class FaultFile;

  struct Rule {
    OperationSet kinds;
    int errno_value = 0;
    uint64_t host_offset = 0;
    uint64_t length = UINT64_MAX;
    /// 0: every time. Else operations left until the one that fails.
    uint64_t countdown = 0;
    bool is_spent = false;
  };

  Result<void> admit(FileOperation operation, uint64_t host_offset, uint64_t length);
  uint64_t readable_end() const;

  mutable std::mutex mutex_;
  // Guarded by mutex_, all of them.
  std::vector<Rule> rules_;
  std::vector<uint64_t> counts_ = std::vector<uint64_t>(kOperationKinds);
  uint64_t fired_ = 0;
  std::optional<uint64_t> read_cut_;
};

class FaultFile final : public BlockingFile {
 public:
  FaultFile(std::unique_ptr<BlockingFile> inner, FaultScript& script);

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
  const std::unique_ptr<BlockingFile> inner_;
  FaultScript& script_;
};

}  // namespace imgconv::test
