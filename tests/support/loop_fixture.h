// LoopFixture: a loop, a pool, and a ring if this machine allows one. For tests of what needs a
// real loop; everything else is better served by InlineExecutor.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <utility>

#include "loop/aio_context.h"
#include "loop/task.h"
#include "loop/thread_pool.h"
#include "loop/uring.h"

namespace imgconv::test {

class LoopFixture {
 public:
  explicit LoopFixture(unsigned pool_threads = 2) : pool_(loop_, pool_threads) {
    Result<std::unique_ptr<Uring>> ring = Uring::create(loop_);
    if (ring) {
      ring_ = std::move(*ring);
    } else {
      ring_error_ = ring.error().text();
    }
  }

  AioContext& loop() { return loop_; }
  ThreadPool& pool() { return pool_; }
  /// Null where io_uring is not available; a test then says ring_error() and returns.
  Uring* ring() { return ring_.get(); }
  const std::string& ring_error() const { return ring_error_; }

  template <class T>
  T run(Task<T> task) {
    task.start();
    while (!task.is_done()) loop_.run_once();
    return task.take();
  }

 private:
  AioContext loop_;
  ThreadPool pool_;
  std::unique_ptr<Uring> ring_;
  std::string ring_error_;
};

}  // namespace imgconv::test
