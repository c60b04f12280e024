// Spinning, for threads of the hand-off engine and of the emulated machine that wait or dawdle for
// less time than a sleep would take. Product code does not spin.
#pragma once

#include <sched.h>

#include <cstdint>

namespace imgconv::history {

/// About a third of a nanosecond to one.
inline void spin_one_step() { asm volatile("nop"); }

inline void spin_steps(uint64_t steps) {
  for (; steps > 0; --steps) spin_one_step();
}

/// Waiting that leaves the processor to others when it takes long.
class Spin {
 public:
  void turn() {
    spin_one_step();
    if (++turns_ % kTurnsPerYield == 0) sched_yield();
  }

 private:
  static constexpr unsigned kTurnsPerYield = 1U << 16;
  unsigned turns_ = 0;
};

}  // namespace imgconv::history
