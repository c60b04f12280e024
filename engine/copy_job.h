// CopyJob: one copy from a source to a target: who is next, who may write, what failed first.
//
// Runs the plan's number of workers (engine/worker.h) and holds what they share. Workers never talk
// to each other, only to the job. Nothing is cancelled: after the first error no chunk is handed
// out, whoever waits for a turn is released, and I/O in flight is awaited. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/chunk.h"
#include "engine/concat_source.h"
#include "engine/copy_witness.h"
#include "engine/extent_cursor.h"
#include "engine/messages.h"
#include "engine/plan.h"
#include "engine/rate_limit.h"
#include "engine/turnstile.h"
#include "formats/image.h"
#include "loop/co_mutex.h"
#include "loop/executor.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class CopyJob {
 public:
  /// All must outlive the job. `witness` may be null; else the plan has is_witnessed.
  CopyJob(const ConcatSource& source, Image& target, const ConvertPlan& plan, Executor& executor,
          Messages& messages, CopyWitness* witness = nullptr);

  /// Copies everything. The first error, complete with offset.
  Task<Result<void>> run();

  uint64_t bytes_written() const { return bytes_written_; }

  // ---- For workers. ----

  const ConvertPlan& plan() const { return plan_; }
  Image& target() { return target_; }
  Executor& executor() { return executor_; }
  Turnstile& turnstile() { return turnstile_; }
  /// Null: nobody looks at the bytes.
  CopyWitness* witness() { return witness_; }
  /// Where the target's guest bytes are, when that is one file at a fixed distance.
  const std::optional<HostRun>& identity() const { return identity_; }

  /// The next chunk; false when there is none or the job has failed.
  Task<Result<bool>> claim(Chunk& chunk);
  /// Books a chunk that was copied.
  void finish(const Chunk& chunk);
  /// Keeps the first error and lets nobody wait any more.
  void fail(Error error);
  bool has_failed() const { return first_error_.has_value(); }

 private:
  Task<Result<void>> find_identity();
  Task<Result<void>> count_work();

  const ConcatSource& source_;
  Image& target_;
  const ConvertPlan& plan_;
  Executor& executor_;
  Messages& messages_;
  CopyWitness* const witness_;

  ExtentCursor cursor_;
  RateLimit rate_limit_;
  /// Guards cursor_ and rate_limit_ while a claim waits for metadata or for its time.
  CoMutex claim_lock_;
  Turnstile turnstile_;
  std::optional<HostRun> identity_;
  std::optional<Error> first_error_;
  /// For progress: of the data or of the disk, see ConvertPlan::counts_data.
  uint64_t work_total_ = 0;
  uint64_t work_done_ = 0;
  uint64_t bytes_written_ = 0;
};

}  // namespace imgconv
