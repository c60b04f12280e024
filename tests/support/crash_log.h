// CrashLog: what may be on the medium when the power fails in the middle of a run.
//
// It records every change and every flush of the files of a MemStorage, as their hook. Afterwards
// it makes the states that a crash can leave: what a flush covered is there; of what came later any
// part may be, since writes reach a medium in any order and sector by sector. Judging a state is
// the caller's affair: GuestHistory helps with guest data, tests/formats/qcow2_crash.h with qcow2.
// For small files: every state is built in memory. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/hooked_file.h"
#include "tests/support/mem_storage.h"

namespace imgconv::test {

/// Files by name.
using Medium = std::map<std::string, std::vector<std::byte>>;

struct CrashState {
  Medium files;
  /// Records up to here had been made when the power failed.
  size_t time = 0;
  /// What reached the medium, for messages.
  std::string description;
};

class CrashLog final : public FileHook {
 public:
  /// Records every file that `storage` opens or creates from now on, as long as the log
  /// lives.
  explicit CrashLog(MemStorage& storage);
  ~CrashLog() override { storage_.set_wrapper({}); }

  /// What the files hold now is on the medium; forgets what was recorded.
  void start();
  /// Changes and flushes recorded so far.
  size_t now() const { return records_.size(); }

  using Judge = std::function<void(const CrashState&)>;
  /// Shows `judge` the states: for every stretch between two flushes each cut of the sequence, each
  /// write that was first or is missing, and `random_subsets` more, half of them with torn writes.
  void for_each_state(uint32_t seed, unsigned random_subsets, const Judge& judge) const;

  Result<void> before(const FileCall& call) override;

 private:
  struct Record {
    std::string file;
    FileOperation operation = FileOperation::kWrite;
    uint64_t host_offset = 0;
    uint64_t length = 0;
    std::vector<std::byte> data;
  };
  /// Indices into records_ that no flush covered, ascending.
  using Pending = std::vector<size_t>;

  static void apply(Medium& medium, const Record& record);
  /// Applies a random half of the record's sectors.
  static void apply_torn(Medium& medium, const Record& record, std::mt19937& random);
  void judge_stretch(const Medium& durable, const Pending& pending, size_t time,
                     unsigned random_subsets, std::mt19937& random, const Judge& judge) const;

  MemStorage& storage_;
  Medium start_;
  std::vector<Record> records_;
};

}  // namespace imgconv::test
