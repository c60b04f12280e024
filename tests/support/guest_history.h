// GuestHistory: what a disk may read as after a crash. Every sector must hold what was written last
// before the last completed flush, or any of the later writes to it; other sectors what they held.
//
// Times are those of a CrashLog: note a write before it is made, a flush when it is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace imgconv::test {

class GuestHistory {
 public:
  static constexpr uint64_t kSector = 512;

  /// What the disk holds, and is on the medium.
  explicit GuestHistory(std::vector<std::byte> initial) : initial_(std::move(initial)) {}

  /// Requires: whole sectors, inside the disk; times ascend.
  void write(size_t time, uint64_t guest_offset, std::span<const std::byte> bytes);
  void flushed(size_t time) { flush_times_.push_back(time); }

  /// A sentence on the first sector that may not be; nothing when all is well.
  std::optional<std::string> mismatch(size_t time, std::span<const std::byte> guest) const;

 private:
  struct Write {
    size_t time = 0;
    uint64_t guest_offset = 0;
    std::vector<std::byte> bytes;
  };

  std::vector<std::byte> initial_;
  std::vector<Write> writes_;
  std::vector<size_t> flush_times_;
};

}  // namespace imgconv::test
