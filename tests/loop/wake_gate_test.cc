#include "loop/wake_gate.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>

#include "loop/inbox.h"

namespace imgconv {
namespace {

struct Item {
  Item* next = nullptr;
  int round = 0;
};

/// A blocking eventfd: wait() sleeps until set(), and takes all signals.
class Signal {
 public:
  Signal() : descriptor_(::eventfd(0, EFD_CLOEXEC)) { REQUIRE(descriptor_ >= 0); }
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;
  ~Signal() { ::close(descriptor_); }

  bool set() {
    const uint64_t one = 1;
    return ::write(descriptor_, &one, sizeof one) == sizeof one;
  }
  bool wait() {
    uint64_t count = 0;
    return ::read(descriptor_, &count, sizeof count) == sizeof count;
  }

 private:
  const int descriptor_;
};

TEST_CASE("WakeGate: a producer need not signal a loop that is awake", "[loop]") {
  WakeGate gate;
  CHECK_FALSE(gate.kick());
  gate.arm();
  gate.disarm();
  CHECK_FALSE(gate.kick());
}

TEST_CASE("WakeGate: one producer of several signals an armed loop", "[loop]") {
  WakeGate gate;
  gate.arm();
  CHECK(gate.kick());
  CHECK_FALSE(gate.kick());
  gate.arm();
  CHECK(gate.kick());
}

TEST_CASE("WakeGate: a loop that finds work stays awake and disarmed", "[loop]") {
  WakeGate gate;
  CHECK_FALSE(gate.try_arm([] { return true; }));
  CHECK_FALSE(gate.kick());
  CHECK(gate.try_arm([] { return false; }));
  CHECK(gate.kick());
}

TEST_CASE("WakeGate: work is looked for while the gate is armed", "[loop]") {
  WakeGate gate;
  bool was_armed = false;
  CHECK(gate.try_arm([&] {
    was_armed = gate.kick();
    return false;
  }));
  CHECK(was_armed);
}

TEST_CASE("WakeGate: a sleeping loop gets every item of two producers", "[loop]") {
  constexpr int kRounds = 20'000;
  WakeGate gate;
  Inbox<Item> inbox;
  Signal to_loop;
  std::array<Signal, 2> to_producer;
  std::array<Item, 2> items;

  // Each producer waits for its item to come back, so the loop goes to sleep about once per item.
  const auto produce = [&](size_t index) {
    for (int round = 1; round <= kRounds; ++round) {
      items[index].round = round;
      inbox.push(items[index]);
      if (gate.kick()) to_loop.set();
      if (!to_producer[index].wait()) return;
    }
  };
  std::array<std::thread, 2> producers = {std::thread(produce, 0), std::thread(produce, 1)};

  std::array<int, 2> last_round = {0, 0};
  bool in_order = true;
  for (int received = 0; received < 2 * kRounds;) {
    if (gate.try_arm([&] { return !inbox.is_empty(); })) {
      to_loop.wait();
      gate.disarm();
    }
    for (Item* item = inbox.drain(); item != nullptr;) {
      Item* next = item->next;
      const size_t index = item == &items[0] ? 0 : 1;
      in_order = in_order && item->round == last_round[index] + 1;
      last_round[index] = item->round;
      ++received;
      to_producer[index].set();
      item = next;
    }
  }
  for (std::thread& producer : producers) producer.join();
  CHECK(in_order);
  CHECK(last_round == std::array<int, 2>{kRounds, kRounds});
}

}  // namespace
}  // namespace imgconv
