#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <thread>
#include <vector>

#include "loop/aio_context.h"
#include "loop/history/loop_trace.h"
#include "loop/history/state_mailbox.h"
#include "loop/runtime.h"
#include "loop/thread_pool.h"

namespace imgconv::history {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;

/// Writes down what it is asked, and always signals.
class ScriptedProtocol final : public LoopProtocol {
 public:
  bool post(Job& job) override {
    job.next = nullptr;
    jobs_.push(job);
    return true;
  }
  bool prepare() override {
    calls.push_back('p');
    return may_sleep && jobs_.is_empty();
  }
  void check(bool was_signalled) override { calls.push_back(was_signalled ? 'S' : 'c'); }
  Job* dispatch() override {
    calls.push_back('d');
    return jobs_.is_empty() ? nullptr : jobs_.drain();
  }
  ProtocolState state() const override {
    ProtocolState state;
    state.words = {{"notify_me", 1}, {"scheduled", 7}};
    return state;
  }
  Job* rescue() override { return jobs_.drain(); }

  std::string calls;
  bool may_sleep = true;

 private:
  Inbox<Job> jobs_;
};

class CountingJob final : public Job {
 public:
  void run() override {}
  void complete() override { ++completions; }
  int completions = 0;
};

}  // namespace

TEST_CASE("AioContext: under a protocol each round is prepare, check, dispatch",
          "[loop][history]") {
  ScriptedProtocol protocol;
  AioContext loop(&protocol);
  CHECK_FALSE(loop.poll_once());
  CHECK(protocol.calls == "pcd");
}

TEST_CASE("AioContext: a job posted under a protocol completes through it", "[loop][history]") {
  ScriptedProtocol protocol;
  AioContext loop(&protocol);
  CountingJob job;
  std::thread worker([&loop, &job] { loop.post(job); });
  loop.run_once();
  worker.join();
  CHECK(job.completions == 1);
  // The signal, if the sleep did not take it.
  loop.poll_once();
  CHECK(protocol.calls.find('S') != std::string::npos);
}

TEST_CASE("AioContext: what a protocol does not know of keeps the loop awake", "[loop][history]") {
  ScriptedProtocol protocol;
  AioContext loop(&protocol);
  int calls = 0;
  loop.schedule_oneshot([](void* count) { ++*static_cast<int*>(count); }, &calls);
  loop.run_once();
  CHECK(calls == 1);
}

TEST_CASE("LoopTrace: the figures of a loop with a pool", "[loop][history]") {
  Result<TracePage> page = TracePage::create();
  REQUIRE(page);
  const std::unique_ptr<LoopProtocol> protocol =
      make_loop_protocol("current", Memory::kNative, /*seed=*/1);
  REQUIRE(protocol != nullptr);
  TracedProtocol traced(*protocol, page->trace(), std::nullopt);
  {
    AioContext loop(&traced);
    ThreadPool pool(loop, 2);
    std::vector<std::unique_ptr<CountingJob>> jobs;
    for (int i = 0; i < 50; ++i) {
      pool.submit(*jobs.emplace_back(std::make_unique<CountingJob>()));
    }
    for (const auto& job : jobs) {
      while (job->completions == 0) loop.run_once();
    }
  }
  const LoopFigures figures = page->trace().read();
  CHECK(figures.jobs_posted == 50);
  CHECK(figures.jobs_dispatched == 50);
  CHECK(figures.phase == LoopPhase::kDispatch);
  CHECK(figures.wakeups <= figures.rounds);
  CHECK(figures.prepare_ns <= figures.check_ns);
  CHECK(figures.check_ns <= figures.dispatch_ns);
  CHECK(figures.schedule_ns > 0);
}

TEST_CASE("TracePage: a parent reads what its child wrote", "[loop][history]") {
  Result<TracePage> page = TracePage::create();
  REQUIRE(page);
  const pid_t child = ::fork();
  if (child == 0) {
    page->trace().set_progress(3, 4);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(page->trace().read().bytes_done == 3);
  CHECK(page->trace().read().bytes_total == 4);
}

TEST_CASE("StateMailbox: another process asks for the words, as often as it likes",
          "[loop][history]") {
  Result<TracePage> page = TracePage::create();
  REQUIRE(page);
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const ScriptedProtocol protocol;
    const StateObserver observer(page->mailbox(), protocol);
    // Until the parent closes its end.
    ::close(ends[1]);
    char nothing = 0;
    static_cast<void>(::read(ends[0], &nothing, 1));
    ::_exit(0);
  }
  ::close(ends[0]);
  for (int i = 0; i < 3; ++i) {
    const std::optional<StateCopy> state = page->mailbox().ask(60 * kSecondNs);
    REQUIRE(state);
    REQUIRE(state->words.size() == 2);
    CHECK(state->words[0].name == "notify_me");
    CHECK(state->words[1].value == 7);
  }
  ::close(ends[1]);
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
}

TEST_CASE("StateMailbox: nobody answers", "[loop][history]") {
  StateMailbox mailbox;
  CHECK_FALSE(mailbox.ask(/*limit_ns=*/1000));
}

TEST_CASE("StateMailbox: a question that comes too late does not undo the end", "[loop][history]") {
  StateMailbox mailbox;
  mailbox.stop();
  CHECK_FALSE(mailbox.ask(/*limit_ns=*/1000));
  CHECK_FALSE(mailbox.wait_for_question());
}

}  // namespace imgconv::history
