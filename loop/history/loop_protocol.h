// LoopProtocol: one wake-up protocol of the case file, in the place where the loop otherwise uses
// its WakeGate and its Inbox for finished jobs. For the reproducer and tests only: a normal run has
// none. It carries jobs, but owns neither them nor the eventfd, which the caller writes, polls and
// clears. A faulty protocol loses wake-ups; it loses no job: rescue() finds what was left behind.
//
// post and state: any thread. The rest: loop thread, in the order prepare, (sleep), check,
// dispatch; each prepare() is followed by check(), whether the loop slept or not.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "loop/executor.h"

namespace imgconv::history {

/// What a protocol's atomics do. kArmv8 shows on any machine what ARMv8 allows for atomics made of
/// exclusive loads and stores (loop/history/armv8_sync.h).
enum class Memory : uint8_t { kNative, kArmv8 };

/// The protocol's words as they are in memory now.
struct ProtocolState {
  struct Word {
    std::string_view name;
    uint64_t value;
  };
  std::vector<Word> words;
  /// Jobs were posted that dispatch() has not returned yet.
  bool has_undelivered = false;
};

class LoopProtocol {
 public:
  virtual ~LoopProtocol() = default;

  /// Publishes a finished job, schedules the bottom half that completes it and decides about the
  /// wake-up. True: the caller must write the eventfd.
  [[nodiscard]] virtual bool post(Job& job) = 0;

  /// Announces that the loop may sleep, and looks for work. True: it may sleep as far as this
  /// protocol is concerned.
  [[nodiscard]] virtual bool prepare() = 0;

  /// After the sleep, or after the decision not to sleep: withdraws the announcement. If
  /// `was_signalled`, the eventfd has been cleared, and the notification is accepted.
  virtual void check(bool was_signalled) = 0;

  /// What the bottom half's callback finds, linked by `next`; null if it is not due or finds
  /// nothing.
  [[nodiscard]] virtual Job* dispatch() = 0;

  /// Does not disturb the protocol: reads only, and not through the emulated store buffers.
  virtual ProtocolState state() const = 0;

  /// After a loss was detected: everything posted and not returned yet, linked by `next`, found
  /// without the protocol's words. Requires: no post() is going on.
  virtual Job* rescue() = 0;
};

/// The ids that make_loop_protocol() knows: those of the case file. "current" is the shipped gate
/// and inbox.
std::vector<std::string_view> loop_protocol_ids();

/// Null for an unknown id. `seed` is for kArmv8's choices, as far as the threads' timing lets them
/// be the same again. `cold_stores`: how many stores to lines that are in no near cache the loop
/// makes before each prepare() and dispatch(), so that the protocol's own stores wait behind them
/// in the processor's store buffer. That widens the window of a race and changes no protocol; 8
/// make V2_both and V5_noMfence lose wake-ups by the thousand.
std::unique_ptr<LoopProtocol> make_loop_protocol(std::string_view id, Memory memory, uint64_t seed,
                                                 unsigned cold_stores = 0);

}  // namespace imgconv::history
