// FaultScript: makes the files fail around which a FaultFile is put. One script rules every file of
// a test ("fail the k-th operation of the whole run"). Safe on any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/file_operation.h"
#include "tests/support/hooked_file.h"

namespace imgconv::test {

class FaultScript final : public FileHook {
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

  Result<void> before(const FileCall& call) override;
  uint64_t readable_end() const override;

 private:
  struct Rule {
    OperationSet kinds;
    int errno_value = 0;
    uint64_t host_offset = 0;
    uint64_t length = UINT64_MAX;
    /// 0: every time. Else operations left until the one that fails.
    uint64_t countdown = 0;
    bool is_spent = false;
  };

  mutable std::mutex mutex_;
  // Guarded by mutex_, all of them.
  std::vector<Rule> rules_;
  std::vector<uint64_t> counts_ = std::vector<uint64_t>(kOperationKinds);
  uint64_t fired_ = 0;
  std::optional<uint64_t> read_cut_;
};

using FaultFile = HookedFile;

}  // namespace imgconv::test
