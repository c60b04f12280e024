// TraceLog: records what is done to the files around which a TraceFile is put, so that a test can
// assert what was not done ("no write for a hole") and in which order ("refcounts before L2").
//
// An operation is recorded before it is done. Safe on any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "tests/support/file_operation.h"
#include "tests/support/hooked_file.h"

namespace imgconv::test {

struct TraceEntry {
  std::string file;
  FileOperation operation = FileOperation::kRead;
  uint64_t host_offset = 0;
  uint64_t length = 0;

  uint64_t host_end() const { return host_offset + length; }
};

class TraceLog final : public FileHook {
 public:
  Result<void> before(const FileCall& call) override;
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

using TraceFile = HookedFile;

}  // namespace imgconv::test
