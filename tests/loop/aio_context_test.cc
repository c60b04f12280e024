#include "loop/aio_context.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "loop/aio_wait.h"
#include "loop/task.h"

namespace imgconv {
namespace {

constexpr int64_t kMillisecondNs = 1'000'000;

class CallJob final : public Job {
 public:
  explicit CallJob(std::function<void()> on_complete) : on_complete_(std::move(on_complete)) {}
  void run() override {}
  void complete() override { on_complete_(); }

 private:
  const std::function<void()> on_complete_;
};

/// An eventfd served by the loop.
class NotifierSource final : public EventSource {
 public:
  explicit NotifierSource(std::function<void()> on_readable)
      : on_readable_(std::move(on_readable)) {}

  int descriptor() const override { return notifier.descriptor(); }
  void prepare() override { ++prepared; }
  bool dispatch(bool is_readable) override {
    if (!is_readable || notifier.clear() == 0) return false;
    on_readable_();
    return true;
  }

  EventNotifier notifier;
  int prepared = 0;

 private:
  const std::function<void()> on_readable_;
};

struct HomeSwitch {
  AioContext& loop;
  std::thread& other;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    other = std::thread([&home = loop, handle] { home.resume(handle); });
  }
  void await_resume() const noexcept {}
};

Task<bool> come_home(AioContext& loop, std::thread& other) {
  HomeSwitch home_switch{loop, other};
  co_await home_switch;
  co_return loop.is_loop_thread();
}

Task<int64_t> measure_sleep(AioContext& loop, int64_t delay_ns) {
  const int64_t before = steady_clock_ns();
  co_await loop.sleep_ns(delay_ns);
  co_return steady_clock_ns() - before;
}

}  // namespace

TEST_CASE("AioContext: poll_once with nothing to do says so and does not sleep",
          "[loop][aio_context]") {
  AioContext loop;
  CHECK_FALSE(loop.poll_once());
}

TEST_CASE("AioContext: a bottom half runs in the next round, once per schedule",
          "[loop][aio_context]") {
  AioContext loop;
  int calls = 0;
  BottomHalf bottom_half([](void* count) { ++*static_cast<int*>(count); }, &calls);
  loop.schedule(bottom_half);
  loop.schedule(bottom_half);
  CHECK(calls == 0);
  loop.run_once();
  CHECK(calls == 1);
  CHECK_FALSE(loop.poll_once());
}

TEST_CASE("AioContext: posted jobs complete in the order of posting", "[loop][aio_context]") {
  AioContext loop;
  std::vector<int> log;
  std::vector<std::unique_ptr<CallJob>> jobs;
  for (int id = 0; id < 5; ++id) {
    jobs.push_back(std::make_unique<CallJob>([&log, id] { log.push_back(id); }));
    loop.post(*jobs.back());
  }
  loop.run_once();
  CHECK(log == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("AioContext: notify from another thread ends the sleep, many rounds",
          "[loop][aio_context]") {
  AioContext loop;
  std::atomic<int> requested{0};
  std::atomic<int> answered{0};
  constexpr int kRounds = 20'000;
  // Each side waits for the other in every round, so one lost wake-up would hang the test.
  std::thread other([&] {
    for (int round = 1; round <= kRounds; ++round) {
      requested.store(round);
      loop.notify();
      while (answered.load() < round) std::this_thread::yield();
    }
  });
  for (int round = 1; round <= kRounds; ++round) {
    while (requested.load() < round) loop.run_once();
    answered.store(round);
  }
  other.join();
  CHECK(loop.statistics().signals_received <= kRounds);
}

TEST_CASE("AioContext: a loop that is awake is not signalled", "[loop][aio_context]") {
  AioContext loop;
  int completed = 0;
  CallJob job([&] { ++completed; });
  std::thread producer([&] {
    loop.post(job);
    loop.notify();
  });
  producer.join();
  loop.run_once();
  CHECK(completed == 1);
  // This one looks at the descriptor, which the busy round left alone.
  CHECK_FALSE(loop.poll_once());
  CHECK(loop.statistics().signals_received == 0);
}

TEST_CASE("AioContext: a callback may run the loop until other jobs complete",
          "[loop][aio_context]") {
  AioContext loop;
  std::vector<int> log;
  bool second_is_done = false;
  CallJob second([&] {
    log.push_back(2);
    second_is_done = true;
  });
  CallJob first([&] {
    log.push_back(1);
    while (!second_is_done) loop.run_once();
    log.push_back(3);
  });
  // Both are accepted in the same round: the nested one must find what the outer one still holds.
  loop.post(first);
  loop.post(second);
  loop.run_once();
  CHECK(log == std::vector<int>{1, 2, 3});
}

TEST_CASE("AioContext: AioWait inside a callback sees a condition of another thread",
          "[loop][aio_context]") {
  AioContext loop;
  AioWait wait;
  std::atomic<bool> condition{false};
  std::thread other;
  CallJob job([&] {
    other = std::thread([&] {
      condition.store(true, std::memory_order_relaxed);
      wait.kick([&] { loop.notify(); });
    });
    wait.wait_until([&] { return condition.load(std::memory_order_relaxed); },
                    [&] { loop.run_once(); });
  });
  loop.post(job);
  loop.run_once();
  other.join();
  CHECK(condition.load());
}

TEST_CASE("AioContext: a coroutine resumed from another thread comes home", "[loop][aio_context]") {
  AioContext loop;
  std::thread other;
  Task<bool> task = come_home(loop, other);
  task.start();
  while (!task.is_done()) loop.run_once();
  other.join();
  CHECK(task.take());
}

TEST_CASE("AioContext: a readable source is dispatched and prepared before each sleep",
          "[loop][aio_context]") {
  AioContext loop;
  int readable = 0;
  NotifierSource source([&] { ++readable; });
  loop.add_source(source);
  std::thread other([&] { source.notifier.set(); });
  loop.run_once();
  other.join();
  CHECK(readable == 1);
  CHECK(source.prepared >= 1);
  CHECK_FALSE(loop.poll_once());
  loop.remove_source(source);
}

TEST_CASE("AioContext: a source may remove itself and its neighbour from its callback",
          "[loop][aio_context]") {
  AioContext loop;
  int first_calls = 0;
  int second_calls = 0;
  NotifierSource second([&] { ++second_calls; });
  std::unique_ptr<NotifierSource> first;
  first = std::make_unique<NotifierSource>([&] {
    ++first_calls;
    loop.remove_source(*first);
    loop.remove_source(second);
  });
  loop.add_source(*first);
  loop.add_source(second);
  first->notifier.set();
  second.notifier.set();
  loop.run_once();
  CHECK(first_calls == 1);
  CHECK(second_calls == 0);
  CHECK_FALSE(loop.poll_once());
}

TEST_CASE("AioContext: a busy loop still looks at its sources, but not in every round",
          "[loop][aio_context]") {
  AioContext loop;
  bool source_was_seen = false;
  NotifierSource source([&] { source_was_seen = true; });
  loop.add_source(source);
  source.notifier.set();
  struct Spinner {
    AioContext& loop;
    BottomHalf bottom_half{[](void* self) {
                             auto& spinner = *static_cast<Spinner*>(self);
                             spinner.loop.schedule(spinner.bottom_half);
                           },
                           this};
  } spinner{loop};
  loop.schedule(spinner.bottom_half);
  for (int round = 0; round < 100; ++round) loop.run_once();
  CHECK(source_was_seen);
  CHECK(loop.statistics().polls < 20);
  loop.forget(spinner.bottom_half);
  loop.remove_source(source);
}

TEST_CASE("AioContext: a timer ends the sleep, not before its time", "[loop][aio_context]") {
  AioContext loop;
  Task<int64_t> task = measure_sleep(loop, 2 * kMillisecondNs);
  task.start();
  while (!task.is_done()) loop.run_once();
  CHECK(task.take() >= 2 * kMillisecondNs);
}

TEST_CASE("AioContext: an idle bottom half is called although nothing else happens",
          "[loop][aio_context]") {
  AioContext loop;
  BottomHalf idle([](void* home) { static_cast<AioContext*>(home)->notify(); }, &loop);
  bool timed_out = false;
  Timer deadline(loop.timers(), [&] { timed_out = true; });
  deadline.arm_after(10'000 * kMillisecondNs);
  loop.schedule_idle(idle);
  loop.run_once();
  CHECK_FALSE(timed_out);
}

}  // namespace imgconv
