// Armv8Sync against the explorer: whatever the two sides of a case read and leave in memory on the
// emulated machine is among the outcomes that the armv8-llsc model allows for the case's program,
// and the lost wake-up is among what is seen wherever the model allows it.
#include "loop/history/armv8_sync.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "loop/history/case_file.h"
#include "loop/history/catalogue.h"
#include "loop/history/dispatching.h"
#include "loop/history/random.h"
#include "loop/history/spin.h"
#include "loop/memory_model/explore.h"
#include "loop/memory_model/litmus.h"
#include "tests/support/history_trace.h"

namespace imgconv::history {
namespace {

using memory_model::Exploration;
using memory_model::Model;
using memory_model::Outcome;
using test::StraightProgram;
using test::Trace;
using test::Traced;

/// Two threads that run a pair of functions at the same time, again and again.
class TwoThreads {
 public:
  TwoThreads() : second_([this] { run_second(); }) { spread(); }
  TwoThreads(const TwoThreads&) = delete;
  TwoThreads& operator=(const TwoThreads&) = delete;
  ~TwoThreads() {
    is_stopping_ = true;
    start_.fetch_add(1);
    second_.join();
  }

  void run(const std::function<void()>& first, const std::function<void()>& second) {
    task_ = &second;
    start_.fetch_add(1);
    first();
    Spin spin;
    while (done_.load() != start_.load()) spin.turn();
  }

 private:
  void run_second() {
    for (uint64_t round = 1;; ++round) {
      Spin spin;
      while (start_.load() < round) spin.turn();
      if (is_stopping_) return;
      (*task_)();
      done_.store(round);
    }
  }

  /// The second thread keeps off the processor of the first, if it can.
  void spread() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return;
    CPU_CLR(static_cast<size_t>(sched_getcpu()), &set);
    pthread_setaffinity_np(second_.native_handle(), sizeof set, &set);
  }

  std::atomic<uint64_t> start_{0};
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> is_stopping_{false};
  const std::function<void()>* task_ = nullptr;
  std::thread second_;
};

/// One run of the two sides, as far as the program describes it.
struct Observation {
  /// What each side's operations read, until the side ended or left the program (a second attempt
  /// to take a lock, what follows an early return that was not taken).
  std::array<std::vector<uint64_t>, 2> reads;
  /// By LocationId; only if both sides ran the whole program and nothing else.
  std::optional<std::vector<uint64_t>> memory;

  auto operator<=>(const Observation&) const = default;
};

class Checker {
 public:
  explicit Checker(const Case& entry)
      : program_(*memory_model::parse_litmus(entry.litmus)),
        exploration_(*memory_model::explore(program_.program(), Model::kArmv8LlSc)) {}

  bool may_lose() const { return exploration_.is_reachable; }
  bool is_lost(const std::array<Trace, 2>& traces) const { return program_.is_lost(traces); }

  Observation observe(const std::array<Trace, 2>& traces) const {
    Observation observation;
    for (size_t side = 0; side < 2; ++side) {
      for (size_t i = 0; i < program_.common_length(side, traces[side]); ++i) {
        observation.reads[side].push_back(traces[side][i].read);
      }
    }
    if (!program_.is_whole(traces)) return observation;
    observation.memory.emplace();
    for (memory_model::LocationId id = 0; id < program_.program().locations.size(); ++id) {
      observation.memory->push_back(program_.final_value(id, traces));
    }
    return observation;
  }

  bool is_allowed(const Observation& observation) const {
    return std::any_of(exploration_.outcomes.begin(), exploration_.outcomes.end(),
                       [&](const Outcome& outcome) { return begins_with(outcome, observation); });
  }

 private:
  bool begins_with(const Outcome& outcome, const Observation& observation) const {
    for (size_t side = 0; side < 2; ++side) {
      for (size_t i = 0; i < observation.reads[side].size(); ++i) {
        const auto& result = program_.side(side)[i].result;
        if (result &&
            static_cast<uint64_t>(outcome.registers[side][*result]) != observation.reads[side][i]) {
          return false;
        }
      }
    }
    if (!observation.memory) return true;
    return std::equal(outcome.memory.begin(), outcome.memory.end(), observation.memory->begin(),
                      [](int64_t a, uint64_t b) { return static_cast<uint64_t>(a) == b; });
  }

  const StraightProgram program_;
  const Exploration exploration_;
};

std::string describe(const Observation& observation) {
  std::string text;
  for (const std::vector<uint64_t>& reads : observation.reads) {
    for (const uint64_t read : reads) text += std::to_string(read) + " ";
    text += "| ";
  }
  if (!observation.memory) return text + "(in part)";
  for (const uint64_t word : *observation.memory) text += std::to_string(word) + " ";
  return text;
}

struct RunUnderEmulation {
  TwoThreads& threads;

  static constexpr int kRuns = 300;
  // The rarest needs a few hundred on an idle machine.
  static constexpr int kMaxRuns = 100'000;

  template <class Variant>
  void operator()(std::string_view id) const {
    INFO(std::string(id));
    Checker checker(*find_case(id));
    std::set<Observation> seen;
    bool has_lost = false;
    Random random(1);
    for (int run = 0; run < (checker.may_lose() && !has_lost ? kMaxRuns : kRuns); ++run) {
      const Observation observation = run_once<Variant>(id, checker, random, has_lost);
      if (!seen.insert(observation).second) continue;
      INFO(describe(observation));
      CHECK(checker.is_allowed(observation));
    }
    CHECK(has_lost == checker.may_lose());
  }

  template <class Variant>
  Observation run_once(std::string_view id, const Checker& checker, Random& random,
                       bool& has_lost) const {
    Variant variant;
    variant.before_program();
    Armv8Sync::leave();
    std::array<Trace, 2> traces;
    const uint64_t loop_delay = random.below(uint64_t{1} << random.below(12));
    const uint64_t worker_delay = random.below(uint64_t{1} << random.below(12));
    threads.run(
        [&] {
          spin_steps(loop_delay);
          test::this_threads_trace = &traces[0];
          variant.loop_side();
          Armv8Sync::leave();
          test::this_threads_trace = nullptr;
        },
        [&] {
          spin_steps(worker_delay);
          test::this_threads_trace = &traces[1];
          variant.worker_side();
          Armv8Sync::leave();
          test::this_threads_trace = nullptr;
        });
    // The push of the shipped inbox begins with a guess, see history_programs_test.cc.
    if (id == "current") traces[1].erase_first();
    has_lost = has_lost || checker.is_lost(traces);
    return checker.observe(traces);
  }
};

TEST_CASE("Armv8Sync: it shows what the model allows, and each lost wake-up", "[loop]") {
  Armv8Sync::seed(1);
  TwoThreads threads;
  visit_catalogue<Traced<Armv8Sync>>(RunUnderEmulation{threads});
}

TEST_CASE("Armv8Sync: three sides show what the model allows, and the logic bug", "[loop]") {
  using Words = Dispatching<Traced<Armv8Sync>>;
  const auto program = *memory_model::parse_litmus(find_case("V1")->litmus);
  const Exploration exploration = *memory_model::explore(program, Model::kArmv8LlSc);
  const StraightProgram straight(test::without_branches(program));
  const auto is_allowed = [&](const std::array<Trace, 3>& traces) {
    return std::any_of(
        exploration.outcomes.begin(), exploration.outcomes.end(), [&](const Outcome& outcome) {
          for (size_t side = 0; side < 3; ++side) {
            for (size_t i = 0; i < straight.common_length(side, traces[side]); ++i) {
              const auto& result = straight.side(side)[i].result;
              if (result &&
                  static_cast<uint64_t>(outcome.registers[side][*result]) != traces[side][i].read) {
                return false;
              }
            }
          }
          return true;
        });
  };
  Armv8Sync::seed(1);
  constexpr int kRuns = 300;
  constexpr int kMaxRuns = 100'000;
  bool has_lost = false;
  for (int run = 0; run < (has_lost ? kRuns : kMaxRuns); ++run) {
    Words words;
    std::array<Trace, 3> traces;
    std::array<bool, 3> goes_on{};
    const auto perform = [&](size_t side, bool (Words::*function)()) {
      test::this_threads_trace = &traces[side];
      goes_on[side] = (words.*function)();
      Armv8Sync::leave();
      test::this_threads_trace = nullptr;
    };
    std::thread nested([&] { perform(1, &Words::nested_side); });
    std::thread worker([&] { perform(2, &Words::worker_side); });
    perform(0, &Words::event_loop_side);
    nested.join();
    worker.join();
    CHECK(is_allowed(traces));
    has_lost = has_lost || !(goes_on[0] || goes_on[1] || goes_on[2]);
  }
  CHECK(has_lost);
}

TEST_CASE("Armv8Sync: a thread sees its own waiting store, another one does not", "[loop]") {
  Armv8Sync::Atomic<uint32_t> word(0);
  uint32_t seen = 0;
  // Now and then a load lets a store go first; not each time.
  for (int i = 0; i < 100 && seen == 0; ++i) {
    word.store(0, std::memory_order_relaxed);
    Armv8Sync::leave();
    word.store(1, std::memory_order_release);
    CHECK(word.load(std::memory_order_relaxed) == 1);
    uint32_t elsewhere = 1;
    std::thread([&] { elsewhere = word.load(std::memory_order_relaxed); }).join();
    if (elsewhere == 0) seen = 1;
  }
  CHECK(seen == 1);
  Armv8Sync::leave();
  std::thread([&] { CHECK(word.load(std::memory_order_relaxed) == 1); }).join();
}

TEST_CASE("Armv8Sync: read-modify-writes of two threads lose nothing", "[loop]") {
  constexpr uint32_t kEach = 20'000;
  Armv8Sync::Atomic<uint32_t> counter(0);
  const auto count = [&counter] {
    for (uint32_t i = 0; i < kEach; ++i) counter.fetch_add(1, std::memory_order_relaxed);
    Armv8Sync::leave();
  };
  std::thread other(count);
  count();
  other.join();
  CHECK(counter.load(std::memory_order_relaxed) == 2 * kEach);
}

TEST_CASE("Armv8Sync: a fence and a second release-acquire pair make stores visible", "[loop]") {
  Armv8Sync::Atomic<uint32_t> first(0);
  Armv8Sync::Atomic<uint32_t> second(0);
  const auto elsewhere = [](const Armv8Sync::Atomic<uint32_t>& word) {
    uint32_t seen = 0;
    std::thread([&] { seen = word.load(std::memory_order_relaxed); }).join();
    return seen;
  };
  for (uint32_t i = 1; i <= 20; ++i) {
    first.store(i, std::memory_order_relaxed);
    Armv8Sync::fence(std::memory_order_seq_cst);
    CHECK(elsewhere(first) == i);
    first.store(i + 1, std::memory_order_release);
    // LDAR waits for the STLR.
    (void)second.load(std::memory_order_acquire);
    CHECK(elsewhere(first) == i + 1);
  }
}

}  // namespace
}  // namespace imgconv::history
