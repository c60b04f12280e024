// ManualExecutor: holds submitted jobs back until the test finishes them, in an order of its
// choice. No threads: run() and complete() happen inside finish(). For "every order" tests: the
// same task run with many seeds must give the same result. The test's thread only.
#pragma once

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "loop/executor.h"
#include "loop/task.h"

namespace imgconv::test {

class ManualExecutor final : public Executor {
 public:
  void submit(Job& job) override { held_.push_back(&job); }

  size_t held() const { return held_.size(); }

  /// Runs and completes one held job. Requires: `index` < held(); 0 is the oldest.
  void finish(size_t index) {
    Job* const job = held_.at(index);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(index));
    job->run();
    job->complete();
  }

  /// Finishes held jobs in an order drawn from `seed` until none is left.
  void finish_all(uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!held_.empty()) finish(random() % held_.size());
  }

 private:
  std::vector<Job*> held_;
};

/// Runs a task to its end with the order of completions drawn from `seed`.
template <class T>
T run_shuffled(ManualExecutor& executor, Task<T> task, uint64_t seed) {
  task.start();
  executor.finish_all(seed);
  REQUIRE(task.is_done());
  return task.take();
}

/// The seed of random tests: IMGCONV_SEED, or the same one each time: what decides whether a change
/// lands must not be a draw.
inline uint64_t test_seed() {
  const char* const text = std::getenv("IMGCONV_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

}  // namespace imgconv::test
