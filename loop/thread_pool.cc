#include "loop/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <cassert>

namespace imgconv {

ThreadPool::ThreadPool(AioContext& loop, unsigned max_threads)
    : loop_(loop), max_threads_(max_threads) {
  assert(max_threads > 0);
  threads_.reserve(max_threads);
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  work_available_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  assert(head_ == nullptr);
}

void ThreadPool::submit(Job& job) {
  bool must_notify = false;
  {
    const std::lock_guard lock(mutex_);
    job.next = nullptr;
    (tail_ == nullptr ? head_ : tail_->next) = &job;
    tail_ = &job;
    if (idle_threads_ > 0) {
      // One token for one sleeper: several submissions in a row wake several threads, and a thread
      // that wakes without a token sleeps on.
      --idle_threads_;
      ++wake_tokens_;
      must_notify = true;
    }
  }
  if (must_notify) {
    work_available_.notify_one();
  } else if (threads_.size() < max_threads_ && !start_thread() && threads_.empty()) {
    Job* const only_one = pop();
    only_one->run();
    loop_.post(*only_one);
  }
}

bool ThreadPool::start_thread() {
  // Signals are for the loop thread: there a handler may interrupt ppoll, here it would only
  // interrupt somebody's I/O.
  sigset_t all_signals;
  sigset_t previous;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &previous);
  const auto work_on = [](void* pool) -> void* {
    static_cast<ThreadPool*>(pool)->work();
    return nullptr;
  };
  pthread_t thread{};
  // RLIMIT_NPROC, a container's limit. std::thread would throw.
  const bool has_started = pthread_create(&thread, nullptr, work_on, this) == 0;
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (has_started) threads_.push_back(thread);
  return has_started;
}

void ThreadPool::work() {
  while (Job* const job = pop()) {
    job->run();
    loop_.post(*job);
  }
}

Job* ThreadPool::pop() {
  std::unique_lock lock(mutex_);
  while (head_ == nullptr) {
    if (is_stopping_) return nullptr;
    ++idle_threads_;
    work_available_.wait(lock, [this] { return wake_tokens_ > 0 || is_stopping_; });
    if (!is_stopping_) --wake_tokens_;
  }
  Job* const job = head_;
  head_ = job->next;
  if (head_ == nullptr) tail_ = nullptr;
  return job;
}

}  // namespace imgconv
