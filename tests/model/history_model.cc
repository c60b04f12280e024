// The case file under Relacy: each variant's two sides, as code, once at the same time. The checker
// says whether the lost wake-up of the variant's case can happen; the explorer's C++20 model says
// so about the case's litmus test. They agree about all of them. That need not be: the checker
// knows no load that waits for a store to come, and is stricter where fences meet seq_cst accesses.
// If a new case brings a disagreement, it is to be listed here with its reason, not left out.
#include "tests/model/relacy_sync.h"

#include <array>
#include <cstdio>
#include <ostream>
#include <string_view>

#include "loop/history/case_file.h"
#include "loop/history/catalogue.h"
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

constexpr rl::iteration_t kSchedules = 20'000;

struct Compare {
  int& num_wrong;

  template <class Variant>
  void operator()(std::string_view id) const {
    const history::Case* const entry = history::find_case(id);
    const StraightProgram parsed(*memory_model::parse_litmus(entry->litmus));
    const bool model_loses =
        memory_model::explore(parsed.program(), memory_model::Model::kCpp20)->is_reachable;
    program = &parsed;
    // The guess of the shipped push, see tests/loop/history_programs_test.cc.
    leaves_out_first = id == "current";

    const rl::test_params result = simulate<Variant>();
    const bool holds = result.test_result == rl::test_result_success;
    const bool checker_loses = result.test_result == rl::test_result_user_assert_failed;
    const bool right = (holds || checker_loses) && checker_loses == model_loses;
    std::printf("%-5s %s: %s after %llu schedules, C++20 model: %s\n", right ? "ok" : "WRONG",
                entry->id.data(), holds ? "holds" : rl::test_result_str(result.test_result),
                static_cast<unsigned long long>(result.stop_iteration),
                model_loses ? "lost" : "holds");
    std::fflush(stdout);
    if (!right) ++num_wrong;
  }

  template <class Variant>
  static rl::test_params simulate() {
    std::ostream silent(nullptr);
    rl::test_params params;
    params.iteration_count = kSchedules;
    params.output_stream = &silent;
    params.progress_stream = &silent;
    rl::simulate<BothSides<Variant>>(params);
    return params;
  }
};

}  // namespace
}  // namespace imgconv::model

int main() {
  int num_wrong = 0;
  imgconv::history::visit_catalogue<imgconv::test::Traced<imgconv::model::HistoryRelacySync>>(
      imgconv::model::Compare{num_wrong});
  return num_wrong == 0 ? 0 : 1;
}
