#include "loop/history/loop_protocol.h"

#include <catch2/catch.hpp>
#include <string>
#include <thread>

#include "loop/history/dispatching.h"

namespace imgconv::history {
namespace {

class EmptyJob final : public Job {
 public:
  void run() override {}
  void complete() override {}
};

int length(const Job* job) {
  int length = 0;
  for (; job != nullptr; job = job->next) ++length;
  return length;
}

/// V1 has a thread of its own, which takes the schedule for a moment and gives it back.
Job* dispatch(LoopProtocol& protocol) {
  for (int turns = 0; turns < 1'000'000; ++turns) {
    Job* const jobs = protocol.dispatch();
    if (jobs != nullptr || !protocol.state().has_undelivered) return jobs;
    std::this_thread::yield();
  }
  return nullptr;
}

TEST_CASE("LoopProtocol: without concurrency each protocol of the case file delivers", "[loop]") {
  const Memory memory = GENERATE(Memory::kNative, Memory::kArmv8);
  for (const std::string_view id : loop_protocol_ids()) {
    INFO(std::string(id));
    const auto protocol = make_loop_protocol(id, memory, 1);
    REQUIRE(protocol != nullptr);
    EmptyJob jobs[3];

    // Asleep: the first job asks for a signal.
    REQUIRE(protocol->prepare());
    CHECK_FALSE(protocol->state().has_undelivered);
    CHECK(protocol->post(jobs[0]));
    CHECK(protocol->state().has_undelivered);
    protocol->check(true);
    CHECK(length(dispatch(*protocol)) == 1);
    CHECK(protocol->dispatch() == nullptr);

    // Awake: what was posted keeps the loop from sleeping, if it was not signalled.
    const bool was_signalled = protocol->post(jobs[1]);
    if (!was_signalled) CHECK_FALSE(protocol->prepare());
    protocol->check(was_signalled);
    CHECK(length(dispatch(*protocol)) == 1);
    CHECK_FALSE(protocol->state().has_undelivered);

    (void)protocol->post(jobs[2]);
    CHECK(length(protocol->rescue()) == 1);
    CHECK_FALSE(protocol->state().has_undelivered);
  }
}

TEST_CASE("Dispatching: who dispatches is not who sleeps, so nobody is woken", "[loop]") {
  Dispatching<NativeSync> words;
  // The event loop finds nothing and goes to sleep.
  REQUIRE(words.prepare());
  // A request of the virtual CPU finishes; that thread is in an aio_poll and takes the signal.
  CHECK(words.worker_side());
  CHECK(words.take_scheduled());
  CHECK_FALSE(words.nested_side());
  // A worker finishes a request of the event loop: the bottom half is scheduled already.
  CHECK_FALSE(words.worker_side());
  // The event loop would see it, if it looked.
  CHECK_FALSE(words.prepare());
}

TEST_CASE("Dispatching: without a nested poll the worker signals", "[loop]") {
  Dispatching<NativeSync> words;
  REQUIRE(words.prepare());
  CHECK(words.worker_side());
  CHECK(words.take_scheduled());
}

TEST_CASE("LoopProtocol: an id that the case file does not have makes nothing", "[loop]") {
  CHECK(make_loop_protocol("V99", Memory::kNative, 1) == nullptr);
}

}  // namespace
}  // namespace imgconv::history
