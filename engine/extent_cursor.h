// ExtentCursor: walks the source once, from begin to end, and hands out chunks.
//
// Turns block status into status runs with exactly the boundaries of qemu-img's convert, since the
// holes of the target depend on them (CLI.md 2.2), and collects runs into chunks worth a pool job.
// Maps ahead in batches and remembers what it has not handed out. Contains no policy beyond the
// plan's. Loop thread only; one caller at a time (the claim lock of CopyJob).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/chunk.h"
#include "engine/concat_source.h"
#include "engine/messages.h"
#include "engine/plan.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class ExtentCursor {
 public:
  /// All three must outlive the cursor.
  ExtentCursor(const ConcatSource& source, const ConvertPlan& plan, Messages& messages)
      : source_(source), plan_(plan), messages_(messages) {}

  /// Fills the chunk, which may stay without runs when the rest of the source needs no work. False
  /// at the end. Error: "error while reading block status at offset N: ...".
  Task<Result<bool>> next_chunk(Chunk& chunk);
  /// From now on a run may be several of plan.max_run, for what need not pass through a buffer.
  void allow_long_runs(bool is_allowed) { allows_long_runs_ = is_allowed; }

 private:
  enum class StatusKind : uint8_t { kData, kZero, kBacking };
  struct StatusRun {
    uint64_t length = 0;
    StatusKind kind = StatusKind::kData;
  };

  /// The longest run of data.
  uint64_t max_data_run(uint64_t length) const;
  bool has_status() const { return status_end_ > position_; }
  /// Takes the status at the position from the mapped extents. Requires: mapped there.
  void take_status();
  StatusKind kind_of(const ChainExtent& found) const;
  StatusRun next_run() const;
  /// Bytes that one status may cover from here.
  uint64_t status_limit() const;
  /// Appends what lies behind mapped_end_ to mapped_.
  Task<Result<void>> map_more();
  Task<Result<void>> append_data(Chunk& chunk, uint64_t length);
  /// Appends the mapped extents of a run of this length. False: some of it must be looked up in
  /// lower layers; nothing was appended then. Requires: mapped as far as the run goes.
  bool append_mapped(Chunk& chunk, uint64_t length) const;
  Task<Result<void>> append_from_all_layers(Chunk& chunk, uint64_t length);

  // --salvage: where no layer can say what it has, the copy has zeros.
  /// What is lost with this byte: to the end of the smallest cluster of any layer.
  uint64_t end_of_loss(uint64_t guest_offset) const;
  ChainExtent give_up(uint64_t guest_offset, uint64_t end, const Error& cause);
  /// The range that was given up last, as a warning.
  void tell_loss();

  const ConcatSource& source_;
  const ConvertPlan& plan_;
  Messages& messages_;

  uint64_t position_ = 0;
  uint64_t next_ticket_ = 0;
  uint64_t status_end_ = 0;
  StatusKind status_kind_ = StatusKind::kData;
  /// Extents from position_ on, those before head_ are used up. Their end is mapped_end_.
  std::vector<ChainExtent> mapped_;
  size_t head_ = 0;
  uint64_t mapped_end_ = 0;
  bool allows_long_runs_ = false;
  /// Given up and not told yet; it may go on.
  uint64_t lost_begin_ = 0;
  uint64_t lost_end_ = 0;
  int lost_cause_ = 0;
};

}  // namespace imgconv
