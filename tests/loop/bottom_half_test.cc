#include "loop/bottom_half.h"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "loop/event.h"
#include "loop/wake_gate.h"

namespace imgconv {
namespace {

/// A bottom half that writes its name, and then does what it is told.
class Named {
 public:
  Named(std::string& log, char name) : log_(log), name_(name) {}
  BottomHalf& bh() { return bh_; }
  void (*then)(void*) = nullptr;
  void* opaque = nullptr;

 private:
  static void call(void* self_pointer) {
    auto& self = *static_cast<Named*>(self_pointer);
    self.log_ += self.name_;
    if (self.then != nullptr) self.then(self.opaque);
  }

  std::string& log_;
  char name_;
  BottomHalf bh_{&Named::call, this};
};

TEST_CASE("BottomHalf: those scheduled are called once, oldest first", "[loop]") {
  std::string log;
  Named a(log, 'a');
  Named b(log, 'b');
  BottomHalfList list;
  CHECK_FALSE(list.has_due());
  CHECK(list.schedule(b.bh()));
  CHECK(list.schedule(a.bh()));
  CHECK(list.has_due());
  CHECK(list.dispatch());
  CHECK(log == "ba");
  CHECK_FALSE(list.has_due());
  CHECK_FALSE(list.dispatch());
  CHECK(log == "ba");
}

TEST_CASE("BottomHalf: schedules before a call become one call", "[loop]") {
  std::string log;
  Named a(log, 'a');
  BottomHalfList list;
  CHECK(list.schedule(a.bh()));
  CHECK_FALSE(list.schedule(a.bh()));
  list.dispatch();
  CHECK(log == "a");
  CHECK(list.schedule(a.bh()));
  list.dispatch();
  CHECK(log == "aa");
}

TEST_CASE("BottomHalf: one that schedules itself is called in the next dispatch", "[loop]") {
  struct Context {
    BottomHalfList list;
    BottomHalf* bh;
  };
  std::string log;
  Named a(log, 'a');
  Context context{{}, &a.bh()};
  a.opaque = &context;
  a.then = [](void* opaque) {
    auto& it = *static_cast<Context*>(opaque);
    CHECK(it.list.schedule(*it.bh));
  };
  CHECK(context.list.schedule(a.bh()));
  CHECK(context.list.dispatch());
  CHECK(log == "a");
  CHECK(context.list.has_due());
  a.then = nullptr;
  CHECK(context.list.dispatch());
  CHECK(log == "aa");
}

TEST_CASE("BottomHalf: a nested dispatch calls those that the outer has not come to", "[loop]") {
  std::string log;
  Named a(log, 'a');
  Named b(log, 'b');
  Named c(log, 'c');
  BottomHalfList list;
  a.opaque = &list;
  a.then = [](void* opaque) {
    auto& it = *static_cast<BottomHalfList*>(opaque);
    CHECK(it.has_due());
    CHECK(it.dispatch());
  };
  CHECK(list.schedule(a.bh()));
  CHECK(list.schedule(b.bh()));
  CHECK(list.schedule(c.bh()));
  CHECK(list.dispatch());
  CHECK(log == "abc");
}

TEST_CASE("BottomHalf: a cancelled one is not called, and can be scheduled again", "[loop]") {
  std::string log;
  Named a(log, 'a');
  BottomHalfList list;
  CHECK(list.schedule(a.bh()));
  list.cancel(a.bh());
  CHECK_FALSE(list.has_due());
  CHECK_FALSE(list.dispatch());
  CHECK(log.empty());
  CHECK(list.schedule(a.bh()));
  list.cancel(a.bh());
  CHECK(list.schedule(a.bh()));
  CHECK(list.dispatch());
  CHECK(log == "a");
}

TEST_CASE("BottomHalf: an idle one is called but is neither due nor progress", "[loop]") {
  std::string log;
  Named a(log, 'a');
  BottomHalfList list;
  CHECK(list.schedule_idle(a.bh()));
  CHECK_FALSE(list.schedule_idle(a.bh()));
  CHECK_FALSE(list.has_due());
  CHECK(list.has_idle());
  CHECK_FALSE(list.dispatch());
  CHECK(log == "a");
  CHECK_FALSE(list.has_idle());
}

TEST_CASE("BottomHalf: scheduling an idle one in earnest asks for a wake-up", "[loop]") {
  std::string log;
  Named a(log, 'a');
  BottomHalfList list;
  CHECK(list.schedule_idle(a.bh()));
  CHECK(list.schedule(a.bh()));
  CHECK(list.has_due());
  CHECK_FALSE(list.schedule_idle(a.bh()));
  CHECK(list.dispatch());
  CHECK(log == "a");
}

TEST_CASE("BottomHalf: a one-shot is called once and freed", "[loop]") {
  int num_calls = 0;
  const auto count = [](void* opaque) { ++*static_cast<int*>(opaque); };
  BottomHalfList list;
  CHECK(list.schedule_oneshot(count, &num_calls));
  CHECK(list.schedule_oneshot(count, &num_calls));
  CHECK(list.has_due());
  CHECK(list.dispatch());
  CHECK(num_calls == 2);
  CHECK_FALSE(list.dispatch());
  CHECK(num_calls == 2);
}

TEST_CASE("BottomHalf: a callback may destroy its own bottom half", "[loop]") {
  struct Owner {
    std::unique_ptr<BottomHalf> bh;
    bool was_called = false;
  };
  Owner owner;
  owner.bh = std::make_unique<BottomHalf>(
      [](void* opaque) {
        auto& it = *static_cast<Owner*>(opaque);
        it.was_called = true;
        it.bh.reset();
      },
      &owner);
  BottomHalfList list;
  CHECK(list.schedule(*owner.bh));
  CHECK(list.dispatch());
  CHECK(owner.was_called);
}

TEST_CASE("BottomHalf: forget takes out the first, a middle and the last one", "[loop]") {
  for (size_t forgotten = 0; forgotten < 3; ++forgotten) {
    std::string log;
    std::array<Named, 3> named = {Named(log, '0'), Named(log, '1'), Named(log, '2')};
    BottomHalfList list;
    for (Named& it : named) CHECK(list.schedule(it.bh()));
    list.forget(named[forgotten].bh());
    list.forget(named[forgotten].bh());
    CHECK(list.dispatch());
    std::string expected = "012";
    expected.erase(forgotten, 1);
    CHECK(log == expected);
    CHECK(list.schedule(named[forgotten].bh()));
    CHECK(list.dispatch());
    CHECK(log == expected + std::to_string(forgotten));
  }
}

TEST_CASE("BottomHalf: a retired one is freed without being called", "[loop]") {
  bool was_called = false;
  const auto call = [](void* opaque) { *static_cast<bool*>(opaque) = true; };
  BottomHalfList list;
  auto scheduled = std::make_unique<BottomHalf>(call, &was_called);
  CHECK(list.schedule(*scheduled));
  list.retire(std::move(scheduled));
  list.retire(std::make_unique<BottomHalf>(call, &was_called));
  CHECK_FALSE(list.dispatch());
  list.retire(std::make_unique<BottomHalf>(call, &was_called));
  CHECK_FALSE(was_called);
}

TEST_CASE("BottomHalf: the list drops what is left, and owners may outlive it", "[loop]") {
  std::string log;
  Named a(log, 'a');
  int num_calls = 0;
  {
    BottomHalfList list;
    CHECK(list.schedule(a.bh()));
    CHECK(list.schedule_oneshot([](void* opaque) { ++*static_cast<int*>(opaque); }, &num_calls));
  }
  CHECK(log.empty());
  CHECK(num_calls == 0);
}

/// Threads that announce work through one bottom half, and a loop that sleeps on an event.
class Announcements {
 public:
  static constexpr size_t kAnnouncers = 3;
  static constexpr int kRounds = 20'000;

  void announce(size_t index) {
    for (int round = 1; round <= kRounds; ++round) {
      announced_[index].store(round, std::memory_order_relaxed);
      if (list_.schedule(bh_) && gate_.kick()) woken_.set();
    }
  }
  void run_until_all_seen() {
    while (num_seen_ < static_cast<int>(kAnnouncers) * kRounds) {
      if (gate_.try_arm([this] { return list_.has_due(); })) {
        woken_.wait();
        woken_.reset();
        gate_.disarm();
      }
      list_.dispatch();
    }
  }

 private:
  void look() {
    num_seen_ = 0;
    for (const auto& count : announced_) num_seen_ += count.load(std::memory_order_relaxed);
  }

  std::array<std::atomic<int>, kAnnouncers> announced_ = {};
  int num_seen_ = 0;
  WakeGate gate_;
  Event woken_;
  BottomHalf bh_{[](void* self) { static_cast<Announcements*>(self)->look(); }, this};
  // Destroyed before bh_, which may still be in it.
  BottomHalfList list_;
};

TEST_CASE("BottomHalf: the last announcement of every thread is seen by a call", "[loop]") {
  Announcements announcements;
  std::vector<std::thread> announcers;
  for (size_t i = 0; i < Announcements::kAnnouncers; ++i) {
    announcers.emplace_back([&announcements, i] { announcements.announce(i); });
  }
  announcements.run_until_all_seen();
  for (std::thread& announcer : announcers) announcer.join();
  SUCCEED();
}

}  // namespace
}  // namespace imgconv
