// AioWait over a whole loop (bottom halves, gate, eventfd): a condition that becomes true wakes the
// thread that waits for it.
#include "tests/model/notifier.h"
#include "tests/model/relacy_sync.h"
#include "tests/model/verdict.h"

#include "loop/aio_wait.h"
#include "loop/bottom_half.h"

namespace imgconv::model {
namespace {

/// The loop, the AioWait, and the conditions of both scenarios; all relaxed.
class Waiter {
 public:
  ~Waiter() { list_.forget(wake_up_); }

  void wait_for_count(int count) {
    wait_.wait_until([&] { return count_.load(std::memory_order_relaxed) >= count; },
                     [this] { run_once(); });
  }
  void wait_without_first_look() {
    bool has_looked = false;
    wait_.wait_until(
        [&] {
          return std::exchange(has_looked, true) && count_.load(std::memory_order_relaxed) > 0;
        },
        [this] { run_once(); });
  }
  void add_one() {
    count_.fetch_add(1, std::memory_order_relaxed);
    wait_.kick([this] {
      if (list_.schedule(wake_up_)) sleeper_.kick();
    });
  }

 private:
  void run_once() {
    while (!list_.dispatch()) {
      sleeper_.sleep_unless([this] { return list_.has_due(); });
    }
  }

  BasicAioWait<RelacySync> wait_;
  BasicBottomHalfList<RelacySync> list_;
  BasicBottomHalf<RelacySync> wake_up_{[](void*) {}, nullptr};
  Sleeper sleeper_;
  RelacySync::Atomic<int> count_{0};
};

/// Thread 0 waits once for what two others contribute.
struct TwoKickers : rl::test_suite<TwoKickers, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      waiter.wait_for_count(2);
    } else {
      waiter.add_one();
    }
  }

  Waiter waiter;
};

/// Thread 0 waits twice; it may leave and enter again between a kick's change and its look.
struct TwoWaits : rl::test_suite<TwoWaits, 2> {
  void thread(unsigned index) {
    if (index == 0) {
      waiter.wait_for_count(1);
      waiter.wait_for_count(2);
    } else {
      waiter.add_one();
      waiter.add_one();
    }
  }

  Waiter waiter;
};

/// Mutant: the look at the condition before the first sleep is dropped.
struct NoFirstLook : rl::test_suite<NoFirstLook, 2> {
  void thread(unsigned index) {
    if (index == 0) {
      waiter.wait_without_first_look();
    } else {
      waiter.add_one();
    }
  }

  Waiter waiter;
};

int run() {
  Verdict verdict("aio_wait");
  IMGCONV_HOLDS(verdict, TwoKickers);
  IMGCONV_HOLDS(verdict, TwoWaits);
  IMGCONV_MUTANT(verdict, TwoKickers, kWaitEnter);
  IMGCONV_MUTANT(verdict, TwoKickers, kWaitKick);
  IMGCONV_MUTANT(verdict, TwoWaits, kWaitEnter);
  IMGCONV_MUTANT(verdict, TwoWaits, kWaitKick);
  verdict.must_fail<NoFirstLook>("OneKicker", "no look at the condition after entering");
  return verdict.exit_code();
}

}  // namespace
}  // namespace imgconv::model

int main() { return imgconv::model::run(); }
