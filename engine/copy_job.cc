#include "engine/copy_job.h"

#include <fmt/core.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "engine/worker.h"
#include "loop/interrupt.h"
#include "loop/task_group.h"
#include "loop/try.h"

namespace imgconv {

CopyJob::CopyJob(const ConcatSource& source, Image& target, const ConvertPlan& plan,
                 Executor& executor, Messages& messages, CopyWitness* witness)
    : source_(source),
      target_(target),
      plan_(plan),
      executor_(executor),
      messages_(messages),
      witness_(witness),
      cursor_(source, plan, messages),
      rate_limit_(plan.rate_limit) {}

Task<Result<void>> CopyJob::find_identity() {
  if (!plan_.target_is_identity || plan_.virtual_size == 0) co_return ok();
  CO_ASSIGN_OR_RETURN(const std::vector<HostRun> runs,
                      co_await target_.reserve(0, plan_.virtual_size));
  identity_ = runs.front();
  co_return ok();
}

Task<Result<void>> CopyJob::count_work() {
  work_total_ = plan_.virtual_size;
  if (!plan_.counts_data) co_return ok();
  work_total_ = 0;
  ExtentCursor cursor(source_, plan_, messages_);
  Chunk chunk;
  bool has_chunk = true;
  while (has_chunk && !InterruptGuard::is_pending()) {
    CO_ASSIGN_OR_RETURN(has_chunk, co_await cursor.next_chunk(chunk));
    if (has_chunk) work_total_ += chunk.data_bytes;
  }
  co_return ok();
}

Task<Result<void>> CopyJob::run() {
  CO_RETURN_IF_ERROR(co_await count_work());
  CO_RETURN_IF_ERROR(co_await find_identity());
  std::vector<std::unique_ptr<Worker>> workers;
  TaskGroup group;
  for (unsigned i = 0; i < plan_.workers; ++i) {
    workers.push_back(std::make_unique<Worker>(*this));
    group.spawn(workers.back()->run());
  }
  CO_RETURN_IF_ERROR(co_await group.join());
  if (first_error_) co_return *first_error_;
  co_return ok();
}

Task<Result<bool>> CopyJob::claim(Chunk& chunk) {
  const CoMutex::Guard guard = co_await claim_lock_.lock();
  if (has_failed()) co_return false;
  if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
  CO_ASSIGN_OR_RETURN(const bool has_chunk, co_await cursor_.next_chunk(chunk));
  const std::chrono::nanoseconds wait =
      rate_limit_.charge(chunk.data_bytes, std::chrono::steady_clock::now());
  if (has_chunk && wait.count() > 0) {
    // One claim at a time gets here, so a limited copy blocks one thread of the pool and no more.
    const auto pause = [wait]() -> Result<void> {
      InterruptGuard::pause_ns(wait.count());
      return ok();
    };
    CO_RETURN_IF_ERROR(co_await run_on(executor_, pause));
    if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
  }
  co_return has_chunk;
}

void CopyJob::finish(const Chunk& chunk) {
  if (has_failed()) return;
  for (const uint64_t guest_offset : chunk.lost_sectors) {
    messages_.warning(
        fmt::format("error while reading offset {}: {}", guest_offset, errno_text(EIO)));
  }
  bytes_written_ += chunk.bytes_written;
  // As long as the kernel does it all by itself, fewer calls do more. At a given rate they would
  // come in gusts.
  if (chunk.data_bytes > 0) cursor_.allow_long_runs(chunk.is_offloaded && plan_.rate_limit == 0);
  const uint64_t done = plan_.counts_data ? chunk.data_bytes : chunk.advance;
  if (done == 0) return;
  work_done_ += done;
  messages_.progress(work_done_, work_total_);
}

void CopyJob::fail(Error error) {
  if (has_failed()) return;
  first_error_ = std::move(error);
  turnstile_.stop();
  if (witness_ != nullptr) witness_->stop();
}

}  // namespace imgconv
