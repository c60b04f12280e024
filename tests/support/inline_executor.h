// Runs jobs at once on the calling thread: a task that uses it finishes inside start(). For tests
// of code that waits for an Executor without caring about concurrency.
#pragma once

#include <cassert>
#include <utility>

#include "loop/executor.h"
#include "loop/task.h"

namespace imgconv::test {

class InlineExecutor final : public Executor {
 public:
  void submit(Job& job) override {
    job.run();
    job.complete();
  }
};

/// Runs a task that never really suspends, and returns its value.
template <class T>
T run_inline(Task<T> task) {
  task.start();
  assert(task.is_done());
  return task.take();
}

}  // namespace imgconv::test
