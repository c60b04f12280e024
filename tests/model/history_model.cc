// The case file under Relacy: each variant's sides, as code, once at the same time: two, and three
// of V1. The checker says whether the lost wake-up of the variant's case can happen; the explorer's
// C++20 model says so about the case's litmus test. They agree about all of them. That need not be:
// the checker knows no load that waits for a store to come, and is stricter where fences meet
// seq_cst accesses. If a new case brings a disagreement, it is to be listed here with its reason,
// not left out.
#include "tests/model/relacy_sync.h"

#include <array>
#include <cstdio>
#include <ostream>
#include <string_view>

#include "loop/history/case_file.h"
#include "loop/history/catalogue.h"
#include "loop/history/dispatching.h"
#include "loop/memory_model/explore.h"
#include "loop/memory_model/litmus.h"
#include "tests/support/history_trace.h"

namespace imgconv::model {
namespace {

using test::StraightProgram;
using test::Trace;

// Of the running simulation. Outside of it nothing may hold what is allocated inside.
std::array<Trace, 2> traces;
const StraightProgram* program = nullptr;
bool leaves_out_first = false;

/// The names that loop/history/ needs beyond those of the shipped protocols, as C++ has them.
struct HistoryRelacySync : RelacySync {
  using RelacySync::fence;

  static void fence(std::memory_order order,
                    std::source_location where = std::source_location::current()) {
    rl::atomic_thread_fence(relacy_order(order), info_of(where));
  }
  template <class T>
  static T sync_fetch_or(Atomic<T>& word, T bits) {
    const T before = word.fetch_or(bits, std::memory_order_seq_cst);
    fence(std::memory_order_seq_cst);
    return before;
  }
  template <class T>
  static void mb_set(Atomic<T>& word, T value) {
    word.store(value, std::memory_order_release);
    fence(std::memory_order_seq_cst);
  }
  static void relax() { rl::yield(1, info_of(std::source_location::current())); }
  static void leave() {}

  static Trace* current_trace() {
    return is_recording ? &traces[rl::ctx().current_thread()] : nullptr;
  }
  static inline bool is_recording = false;
};

template <class Variant>
struct BothSides : rl::test_suite<BothSides<Variant>, 2> {
  void before() {
    HistoryRelacySync::is_recording = false;
    for (Trace& trace : traces) trace.clear();
    variant.before_program();
    HistoryRelacySync::is_recording = true;
  }
  void thread(unsigned index) { index == 0 ? variant.loop_side() : variant.worker_side(); }
  void after() {
    HistoryRelacySync::is_recording = false;
    if (leaves_out_first) traces[1].erase_first();
    RL_ASSERT(!program->is_lost(traces));
  }

  Variant variant;
};

/// V1: the event loop looks, the virtual CPU dispatches and schedules again, a worker schedules.
struct ThreeSides : rl::test_suite<ThreeSides, 3> {
  void thread(unsigned index) {
    if (index == 0) {
      goes_on[0] = words.event_loop_side();
    } else {
      goes_on[index] = index == 1 ? words.nested_side() : words.worker_side();
    }
  }
  void after() { RL_ASSERT(goes_on[0] || goes_on[1] || goes_on[2]); }

  history::Dispatching<HistoryRelacySync> words;
  // By thread: the loop stays awake, or somebody writes the eventfd. Looked at when all are over.
  std::array<bool, 3> goes_on{};
};

constexpr rl::iteration_t kSchedules = 20'000;

template <class TestSuite>
rl::test_params run_schedules() {
  std::ostream silent(nullptr);
  rl::test_params params;
  params.iteration_count = kSchedules;
  params.output_stream = &silent;
  params.progress_stream = &silent;
  rl::simulate<TestSuite>(params);
  return params;
}

bool model_loses(const memory_model::Program& of_case) {
  return memory_model::explore(of_case, memory_model::Model::kCpp20)->is_reachable;
}

/// Whether checker and model agree.
bool agree(std::string_view id, const rl::test_params& result, bool is_lost_in_model) {
  const bool holds = result.test_result == rl::test_result_success;
  const bool is_lost = result.test_result == rl::test_result_user_assert_failed;
  const bool right = (holds || is_lost) && is_lost == is_lost_in_model;
  std::printf("%-5s %s: %s after %llu schedules, C++20 model: %s\n", right ? "ok" : "WRONG",
              id.data(), holds ? "holds" : rl::test_result_str(result.test_result),
              static_cast<unsigned long long>(result.stop_iteration),
              is_lost_in_model ? "lost" : "holds");
  std::fflush(stdout);
  return right;
}

struct Compare {
  int& num_wrong;

  template <class Variant>
  void operator()(std::string_view id) const {
    const StraightProgram parsed(*memory_model::parse_litmus(history::find_case(id)->litmus));
    program = &parsed;
    // The guess of the shipped push, see tests/loop/history_programs_test.cc.
    leaves_out_first = id == "current";
    if (!agree(id, run_schedules<BothSides<Variant>>(), model_loses(parsed.program()))) ++num_wrong;
  }
};

}  // namespace
}  // namespace imgconv::model

int main() {
  using namespace imgconv;
  int num_wrong = 0;
  const auto three_threads = memory_model::parse_litmus(history::find_case("V1")->litmus);
  const bool is_right = model::agree("V1", model::run_schedules<model::ThreeSides>(),
                                     model::model_loses(*three_threads));
  if (!is_right) ++num_wrong;
  history::visit_catalogue<test::Traced<model::HistoryRelacySync>>(model::Compare{num_wrong});
  return num_wrong == 0 ? 0 : 1;
}
