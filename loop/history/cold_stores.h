// ColdStores: fills the store buffer of a thread with stores that take long, so that the next one
// waits behind them. It widens the window of a race and leaves the protocol alone. One thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "loop/history/random.h"
#include "loop/units.h"

namespace imgconv::history {

class ColdStores {
 public:
  ColdStores(unsigned num_stores, uint64_t seed) : num_stores_(num_stores), random_(seed) {
    if (num_stores > 0) lines_ = std::vector<Line>(kLines);
  }

  void run() {
    for (unsigned i = 0; i < num_stores_; ++i) {
      // Relaxed atomics: a plain store to memory that nobody reads could be left out.
      lines_[random_.below(kLines)].word.store(i, std::memory_order_relaxed);
    }
  }

 private:
  // In random order over more than a second-level cache holds.
  static constexpr size_t kLines = 16 * kMiB / 64;
  struct alignas(64) Line {
    std::atomic<unsigned> word{0};
  };

  const unsigned num_stores_;
  Random random_;
  std::vector<Line> lines_;
};

}  // namespace imgconv::history
