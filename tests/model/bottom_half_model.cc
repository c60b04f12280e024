// Bottom halves: a callback runs after every schedule and sees what each scheduler did before.
#include "tests/model/notifier.h"
#include "tests/model/relacy_sync.h"
#include "tests/model/verdict.h"

#include "loop/bottom_half.h"

namespace imgconv::model {
namespace {

using List = BasicBottomHalfList<RelacySync>;
using ModelBottomHalf = BasicBottomHalf<RelacySync>;
using Flag = RelacySync::Atomic<int>;

int value_of(const Flag& flag) { return flag.load(std::memory_order_relaxed); }

/// A loop with bottom halves and those who schedule on it.
class Loop {
 public:
  void schedule(ModelBottomHalf& bh) {
    if (list.schedule(bh)) sleeper.kick();
  }
  void schedule_idle(ModelBottomHalf& bh) {
    if (list.schedule_idle(bh)) sleeper.kick();
  }
  void schedule_oneshot(ModelBottomHalf::Callback callback, void* opaque) {
    if (list.schedule_oneshot(callback, opaque)) sleeper.kick();
  }
  void run_once() {
    sleeper.sleep_unless([this] { return list.has_due(); });
    list.dispatch();
  }

  List list;
  Sleeper sleeper;
};

/// Two threads announce their work through one bottom half; whoever is second may find it
/// scheduled already. The work is relaxed, so only the protocol makes it visible. The loop sleeps
/// for ever if a callback missed work whose schedule it consumed.
struct Coalescing : rl::test_suite<Coalescing, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      while (num_seen < 2) loop.run_once();
    } else {
      work[index - 1].store(1, std::memory_order_relaxed);
      loop.schedule(bh);
    }
  }
  void after() { loop.list.forget(bh); }
  void look() { num_seen = value_of(work[0]) + value_of(work[1]); }

  Loop loop;
  Flag work[2] = {0, 0};
  int num_seen = 0;
  ModelBottomHalf bh{[](void* self) { static_cast<Coalescing*>(self)->look(); }, this};
};

/// The completion callback of a pool: it schedules itself, so that a nested loop makes progress,
/// takes what is there, cancels, and looks again (HANGS.md V1 and V10).
struct SelfScheduling : rl::test_suite<SelfScheduling, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      while (num_seen < 2) loop.run_once();
    } else {
      work[index - 1].store(1, std::memory_order_relaxed);
      loop.schedule(bh);
    }
  }
  void after() { loop.list.forget(bh); }
  void complete() {
    loop.schedule(bh);
    num_seen = value_of(work[0]) + value_of(work[1]);
    loop.list.cancel(bh);
    num_seen = value_of(work[0]) + value_of(work[1]);
  }

  Loop loop;
  Flag work[2] = {0, 0};
  int num_seen = 0;
  ModelBottomHalf bh{[](void* self) { static_cast<SelfScheduling*>(self)->complete(); }, this};
};

/// A callback runs the loop again, once, while others schedule what it waits for.
struct Nested : rl::test_suite<Nested, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      while (!outer_is_done) loop.run_once();
    } else if (index == 1) {
      loop.schedule(outer);
    } else {
      loop.schedule(inner);
    }
  }
  void run_outer() {
    while (!inner_is_done) loop.run_once();
    outer_is_done = true;
  }

  Loop loop;
  bool inner_is_done = false;
  bool outer_is_done = false;
  ModelBottomHalf outer{[](void* self) { static_cast<Nested*>(self)->run_outer(); }, this};
  ModelBottomHalf inner{[](void* self) { static_cast<Nested*>(self)->inner_is_done = true; }, this};
};

enum class SecondSchedule { kKicks, kDoesNotKick };

/// An idle bottom half is scheduled in earnest. The loop's idle limit is infinite here, so it
/// sleeps for ever unless the second schedule wakes it.
template <SecondSchedule kSecond>
struct Upgrade : rl::test_suite<Upgrade<kSecond>, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      while (!has_seen_work) loop.run_once();
    } else if (index == 1) {
      loop.schedule_idle(bh);
    } else {
      work.store(1, std::memory_order_relaxed);
      if (loop.list.schedule(bh) && kSecond == SecondSchedule::kKicks) loop.sleeper.kick();
    }
  }
  void after() { loop.list.forget(bh); }
  void look() { has_seen_work |= value_of(work) != 0; }

  Loop loop;
  Flag work{0};
  bool has_seen_work = false;
  ModelBottomHalf bh{[](void* self) { static_cast<Upgrade*>(self)->look(); }, this};
};

using IdleThenUrgent = Upgrade<SecondSchedule::kKicks>;

/// One-shots from two threads, one of which also gives up a bottom half that is scheduled. The
/// checker reports what is leaked, freed twice or touched after that.
struct OneShotAndRetire : rl::test_suite<OneShotAndRetire, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      while (num_calls < 2) loop.run_once();
      return;
    }
    if (index == 1) {
      auto given_up = std::make_unique<ModelBottomHalf>([](void*) {}, nullptr);
      loop.schedule(*given_up);
      loop.list.retire(std::move(given_up));
    }
    payload[index - 1] = 1;
    loop.schedule_oneshot(index == 1 ? &count<0> : &count<1>, this);
  }
  template <int kPayload>
  static void count(void* opaque) {
    auto& self = *static_cast<OneShotAndRetire*>(opaque);
    self.num_calls += self.payload[kPayload];
  }

  Loop loop;
  RelacySync::Shared<int> payload[2] = {0, 0};
  int num_calls = 0;
};

int run() {
  Verdict verdict("bottom_half");
  IMGCONV_HOLDS(verdict, Coalescing);
  IMGCONV_HOLDS(verdict, SelfScheduling);
  IMGCONV_HOLDS(verdict, Nested);
  IMGCONV_HOLDS(verdict, IdleThenUrgent);
  IMGCONV_HOLDS(verdict, OneShotAndRetire);
  IMGCONV_MUTANT(verdict, Coalescing, kBhPublish);
  IMGCONV_MUTANT(verdict, Coalescing, kBhTake);
  IMGCONV_MUTANT(verdict, Coalescing, kBhRelink);
  IMGCONV_MUTANT(verdict, Coalescing, kBhUnlink);
  IMGCONV_MUTANT(verdict, SelfScheduling, kBhCancel);
  verdict.must_fail<Upgrade<SecondSchedule::kDoesNotKick>>("IdleThenUrgent",
                                                           "no kick for what is pending idle");
  IMGCONV_MUTANT(verdict, OneShotAndRetire, kInboxPush);
  IMGCONV_MUTANT(verdict, OneShotAndRetire, kInboxDrain);
  return verdict.exit_code();
}

}  // namespace
}  // namespace imgconv::model

int main() { return imgconv::model::run(); }
