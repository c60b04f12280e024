// ThreadPool: runs jobs on a few threads and completes them on the loop thread.
//
// Jobs start in the order of submission. A finished job goes to the loop's inbox
// (AioContext::post), which wakes the loop at most once per sleep, however many jobs finish.
// Threads are started when the work first needs them, so that a command that does little starts
// none. submit(): loop thread. The loop must outlive the pool; the destructor runs what is queued
// and joins.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <vector>

#include "loop/aio_context.h"
#include "loop/executor.h"

namespace imgconv {

class ThreadPool final : public Executor {
 public:
  /// Requires: `max_threads` > 0.
  ThreadPool(AioContext& loop, unsigned max_threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() override;

  /// With fewer threads than wanted if the system has no more; without any the job runs here.
  void submit(Job& job) override;
  unsigned max_threads() const { return max_threads_; }

 private:
  void work();
  Job* pop();
  /// False: the system has none left.
  bool start_thread();

  AioContext& loop_;
  const unsigned max_threads_;

  std::mutex mutex_;
  std::condition_variable work_available_;
  // Guarded by mutex_, down to is_stopping_.
  Job* head_ = nullptr;
  Job* tail_ = nullptr;
  // Threads that sleep and that nobody has called yet.
  unsigned idle_threads_ = 0;
  // Threads that were called and have not woken yet.
  unsigned wake_tokens_ = 0;
  bool is_stopping_ = false;

  // Loop thread only.
  std::vector<pthread_t> threads_;
};

}  // namespace imgconv
