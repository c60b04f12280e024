// The bare hand-off: a loop thread and a worker thread over one protocol, millions of rounds, with
// exact detection of lost wake-ups. No files, no eventfd: "asleep" is spinning on a flag that the
// worker sets where it would write the eventfd, so that the protocol is most of what happens.
//
// A wake-up is lost when the loop is asleep, the worker has finished the round, and the flag is not
// set: nobody is left who would set it. That is a state, not a timeout. The round's jobs are then
// rescued, and the next round begins. Blocks the calling thread; starts and joins two others.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "loop/history/loop_protocol.h"
#include "loop/history/pinning.h"
#include "loop/result.h"

namespace imgconv::history {

struct HandoffOptions {
  std::string_view protocol = "current";
  Memory memory = Memory::kNative;
  uint64_t seed = 1;
  uint64_t max_rounds = 1'000'000;
  double max_seconds = 60;
  /// Stop at so many lost wake-ups; 0: do not.
  uint64_t max_lost = 0;
  /// Else the two threads are put on any two processors.
  std::optional<Pinning> pinning;

  // What widens the window and leaves the protocol alone.
  /// Requests per round, at most kMaxJobs. Protocols about a bottom half that is scheduled twice
  /// take two.
  unsigned jobs_per_round = 2;
  /// Each thread idles for a random number of steps below this before its racing store. A step is
  /// less than a nanosecond.
  unsigned max_delay = 2048;
  /// See make_loop_protocol().
  unsigned cold_stores = 0;

  static constexpr unsigned kMaxJobs = 16;
};

struct HandoffReport {
  uint64_t rounds = 0;
  /// How often the loop went to sleep, how often it was woken, how often it was not.
  uint64_t sleeps = 0;
  uint64_t wake_ups = 0;
  uint64_t lost = 0;
  /// Jobs of lost wake-ups. Every job is either completed in turn or rescued.
  uint64_t rescued = 0;
  double seconds = 0;

  double lost_per_million_sleeps() const {
    return sleeps == 0 ? 0 : 1e6 * static_cast<double>(lost) / static_cast<double>(sleeps);
  }
};

/// EINVAL: no such protocol, or no such processor.
Result<HandoffReport> run_handoff(const HandoffOptions& options);

}  // namespace imgconv::history
