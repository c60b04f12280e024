// Event: nobody sleeps for ever, and what was done before set() is visible after wait().
#include "tests/model/relacy_sync.h"
#include "tests/model/verdict.h"

#include "loop/event.h"

namespace imgconv::model {
namespace {

using ModelEvent = BasicEvent<RelacySync>;

/// wait() alone hands over data: two waiters, one of them possibly first, one possibly last.
struct HandOver : rl::test_suite<HandOver, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      payload = 1;
      event.set();
    } else {
      event.wait();
      const int seen = payload;
      RL_ASSERT(seen == 1);
    }
  }

  ModelEvent event;
  RelacySync::Shared<int> payload{0};
};

/// Two setters of one event: the waiter is released once both did their part. The flags are
/// relaxed, so all the order there is comes from the event.
struct TwoSetters : rl::test_suite<TwoSetters, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      event.wait_until([this] {
        return done[0].load(std::memory_order_relaxed) != 0 &&
               done[1].load(std::memory_order_relaxed) != 0;
      });
    } else {
      done[index - 1].store(1, std::memory_order_relaxed);
      event.set();
    }
  }

  ModelEvent event;
  RelacySync::Atomic<int> done[2] = {0, 0};
};

enum class Waiting { kAsShipped, kWithoutSecondLook, kWithoutGeneration };

/// Waits for a relaxed condition, as shipped or with a step left out.
template <Waiting kWaiting, class Condition>
void wait_until(ModelEvent& event, Condition condition) {
  if constexpr (kWaiting == Waiting::kAsShipped) {
    event.wait_until(condition);
  } else if constexpr (kWaiting == Waiting::kWithoutSecondLook) {
    // wait_until() looks before and after its reset by turns.
    int num_looks = 0;
    event.wait_until([&] { return ++num_looks % 2 == 1 && condition(); });
  } else {
    while (!condition()) {
      event.reset();
      if (condition()) return;
      event.wait();
    }
  }
}

/// Two waiters for one condition; each resets the event under the other.
template <Waiting kWaiting>
struct Waiters : rl::test_suite<Waiters<kWaiting>, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      done.store(1, std::memory_order_relaxed);
      event.set();
    } else {
      wait_until<kWaiting>(event, [this] { return done.load(std::memory_order_relaxed) != 0; });
    }
  }

  ModelEvent event;
  RelacySync::Atomic<int> done{0};
};

/// Two threads that take turns over one event: each sets it for the other and then resets it for
/// itself, with a condition that the other does not share.
template <Waiting kWaiting>
struct Turns : rl::test_suite<Turns<kWaiting>, 2> {
  void thread(unsigned index) {
    for (int mine = static_cast<int>(index); mine < 4; mine += 2) {
      wait_until<kWaiting>(event, [&] { return turn.load(std::memory_order_relaxed) == mine; });
      turn.store(mine + 1, std::memory_order_relaxed);
      event.set();
    }
  }

  ModelEvent event;
  RelacySync::Atomic<int> turn{0};
};

using TwoWaiters = Waiters<Waiting::kAsShipped>;
using TakingTurns = Turns<Waiting::kAsShipped>;

int run() {
  Verdict verdict("event");
  IMGCONV_HOLDS(verdict, HandOver);
  IMGCONV_HOLDS(verdict, TwoSetters);
  IMGCONV_HOLDS(verdict, TwoWaiters);
  IMGCONV_HOLDS(verdict, TakingTurns);
  IMGCONV_MUTANT(verdict, HandOver, kEventSet);
  IMGCONV_MUTANT(verdict, HandOver, kEventWait);
  IMGCONV_MUTANT(verdict, TwoWaiters, kEventSet);
  IMGCONV_MUTANT(verdict, TwoWaiters, kEventReset);
  IMGCONV_MUTANT(verdict, TakingTurns, kEventReset);
  verdict.must_fail<Waiters<Waiting::kWithoutSecondLook>>("TwoWaiters",
                                                          "no second look after reset");
  verdict.must_fail<Waiters<Waiting::kWithoutGeneration>>("TwoWaiters", "resets not told apart");
  verdict.must_fail<Turns<Waiting::kWithoutGeneration>>("TakingTurns", "resets not told apart");
  return verdict.exit_code();
}

}  // namespace
}  // namespace imgconv::model

int main() { return imgconv::model::run(); }
