// StateMailbox: lets another process ask for the words of a protocol while the loop itself may
// hang. It lies in shared memory. StateObserver: the thread in the traced process that answers; it
// sleeps unless it is asked, and reads only. One asker and one observer per mailbox.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "loop/history/loop_protocol.h"

namespace imgconv::history {

/// A ProtocolState whose names are its own.
struct StateCopy {
  struct Word {
    std::string name;
    uint64_t value = 0;
  };
  std::vector<Word> words;
};

class StateMailbox {
 public:
  StateMailbox() = default;
  StateMailbox(const StateMailbox&) = delete;
  StateMailbox& operator=(const StateMailbox&) = delete;

  /// The asking process. Nothing if nobody answers in time.
  std::optional<StateCopy> ask(int64_t limit_ns);

  /// The observer: sleeps until it is asked or stopped; false when it is stopped.
  bool wait_for_question();
  void answer(const ProtocolState& state);
  void stop();

 private:
  static constexpr size_t kMaxWords = 8;
  static constexpr size_t kMaxNameLength = 24;
  static constexpr uint32_t kStopped = 1;
  static constexpr uint32_t kOneQuestion = 2;

  struct Word {
    std::array<char, kMaxNameLength> name;
    uint64_t value;
  };

  /// Counts questions in steps of kOneQuestion; the bit kStopped says that nobody answers any more.
  /// The numbers are the futexes of both sides.
  std::atomic<uint32_t> asked_{0};
  std::atomic<uint32_t> answered_{0};
  // Written by the observer, published by answered_.
  uint32_t word_count_ = 0;
  std::array<Word, kMaxWords> words_{};
};

class StateObserver {
 public:
  /// Both must outlive it.
  StateObserver(StateMailbox& mailbox, const LoopProtocol& protocol);
  StateObserver(const StateObserver&) = delete;
  StateObserver& operator=(const StateObserver&) = delete;
  ~StateObserver();

 private:
  StateMailbox& mailbox_;
  std::thread thread_;
};

}  // namespace imgconv::history
