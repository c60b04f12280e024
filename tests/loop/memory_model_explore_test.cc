// explore() beyond verdicts: outcomes, witnesses, races, and what it refuses.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "loop/history/case_file.h"
#include "loop/memory_model/explore.h"
#include "loop/memory_model/litmus.h"
#include "loop/memory_model/notation.h"
#include "tests/support/litmus_shapes.h"

namespace imgconv {
namespace {

using memory_model::Exploration;
using memory_model::Model;
using memory_model::Program;
using memory_model::Step;

Program parse(std::string_view litmus) { return memory_model::parse_litmus(litmus).value(); }

std::string failure(std::string_view litmus) {
  const Result<Exploration> exploration =
      explore(memory_model::parse_litmus(litmus).value(), Model::kSc);
  return exploration ? "none" : exploration.error().text();
}

/// The steps as "P0 ldaxr nm -> 0".
std::vector<std::string> timeline(const Program& program, Model model) {
  std::vector<std::string> lines;
  const Exploration exploration = explore(program, model).value();
  for (const Step& step : exploration.witness.value().steps) {
    lines.push_back(program.threads[step.thread].name + " " + to_text(program, step));
  }
  return lines;
}

constexpr std::string_view kStoreBuffering = R"(C SB
{ x=0; y=0; }
P0 (atomic_int* x, atomic_int* y) {
  atomic_store_explicit(x, 1, memory_order_relaxed);
  int r0 = atomic_load_explicit(y, memory_order_relaxed);
}
P1 (atomic_int* x, atomic_int* y) {
  atomic_store_explicit(y, 1, memory_order_relaxed);
  int r0 = atomic_load_explicit(x, memory_order_relaxed);
}
)";

std::string with_condition(std::string_view condition) {
  return std::string(kStoreBuffering) + std::string(condition);
}

}  // namespace

TEST_CASE("Explorer: the outcomes are all that the model allows, and no others",
          "[loop][memory_model]") {
  const Program program = parse(with_condition("exists (0:r0=0 /\\ 1:r0=0)"));
  const memory_model::Outcome both_old{{{0}, {0}}, {1, 1}};
  const memory_model::Outcome first_sees{{{1}, {0}}, {1, 1}};
  const memory_model::Outcome second_sees{{{0}, {1}}, {1, 1}};
  const memory_model::Outcome both_see{{{1}, {1}}, {1, 1}};

  const Exploration sc = explore(program, Model::kSc).value();
  CHECK(sc.outcomes == std::set<memory_model::Outcome>{first_sees, second_sees, both_see});
  CHECK(sc.allowed_executions == 3);
  CHECK(sc.reaching_executions == 0);
  CHECK_FALSE(sc.witness.has_value());

  const Exploration tso = explore(program, Model::kX86Tso).value();
  CHECK(tso.outcomes ==
        std::set<memory_model::Outcome>{both_old, first_sees, second_sees, both_see});
  CHECK(tso.reaching_executions == 1);
}

TEST_CASE("Explorer: forall asks for an execution that ends otherwise", "[loop][memory_model]") {
  const Program holds = parse(with_condition("forall (0:r0=1 \\/ 1:r0=1)"));
  CHECK_FALSE(explore(holds, Model::kSc).value().is_reachable);
  CHECK(explore(holds, Model::kX86Tso).value().is_reachable);
  const Program never = parse(with_condition("~exists (0:r0=0 /\\ 1:r0=0)"));
  CHECK_FALSE(explore(never, Model::kSc).value().is_reachable);
  CHECK(explore(never, Model::kX86Tso).value().is_reachable);
}

TEST_CASE("Explorer: the witness of LP#1805256 is the timeline that the thread found",
          "[loop][memory_model]") {
  const Program program = parse(history::find_case("V3")->litmus);
  CHECK(timeline(program, Model::kArmv8LlSc) ==
        std::vector<std::string>{"P0 ldaxr nm -> 0", "P0 ldr sched -> 0", "P1 ldaxr sched -> 0",
                                 "P1 stlxr sched := 1", "P1 dmb ish", "P1 ldr nm -> 0",
                                 "P0 stlxr nm := 1"});
  const Exploration exploration = explore(program, Model::kArmv8LlSc).value();
  const std::vector<Step>& steps = exploration.witness->steps;
  // The load overtakes the announcement, and nothing else is out of order.
  for (size_t i = 0; i < steps.size(); ++i) {
    CHECK(steps[i].overtaken == (i == 1 ? std::vector<size_t>{6} : std::vector<size_t>{}));
  }
}

TEST_CASE("Explorer: a witness without reordering is in program order", "[loop][memory_model]") {
  const Program program = parse(history::find_case("V1")->litmus);
  const Exploration exploration = explore(program, Model::kArmv8LlSc).value();
  for (const Step& step : exploration.witness->steps) CHECK(step.overtaken.empty());
}

TEST_CASE("Explorer: a read names the step that it reads from", "[loop][memory_model]") {
  const Program program = parse(with_condition("exists (0:r0=1 /\\ 1:r0=0)"));
  const Exploration exploration = explore(program, Model::kSc).value();
  const std::vector<Step>& steps = exploration.witness->steps;
  REQUIRE(steps.size() == 4);
  for (const Step& step : steps) {
    if (step.kind != Step::Kind::kRead) continue;
    CHECK(step.reads_from.has_value() == (step.value_read == 1));
    if (step.reads_from) CHECK(steps[*step.reads_from].value_written == 1);
  }
}

TEST_CASE("Explorer: a mutex excludes, and what it guards is no race", "[loop][memory_model]") {
  constexpr std::string_view kCounter = R"(C counter
{{ x=0; m=0; }}
P0 (int* x, mtx_t* m) {{ {0} int r0 = *x; *x = r0 + 1; {1} }}
P1 (int* x, mtx_t* m) {{ {0} int r0 = *x; *x = r0 + 1; {1} }}
exists (x=1)
)";
  const Program locked = parse(fmt::format(kCounter, "mtx_lock(m);", "mtx_unlock(m);"));
  const Program bare = parse(fmt::format(kCounter, "", ""));
  for (const Model model : memory_model::kAllModels) {
    INFO(name(model));
    CHECK_FALSE(explore(locked, model).value().is_reachable);
    CHECK_FALSE(explore(locked, model).value().has_data_race);
    CHECK(explore(bare, model).value().is_reachable);
    CHECK(explore(bare, model).value().has_data_race == (model == Model::kCpp20));
  }
}

TEST_CASE("Explorer: a plain location under a release and an acquire is no race",
          "[loop][memory_model]") {
  constexpr std::string_view kPassing = R"(C passing
{{ x=0; y=0; }}
P0 (int* x, atomic_int* y) {{ *x = 1; atomic_store_explicit(y, 1, memory_order_{}); }}
P1 (int* x, atomic_int* y) {{
  int r1 = 7;
  if (atomic_load_explicit(y, memory_order_acquire) == 1) r1 = *x;
}}
exists (1:r1=0)
)";
  const Exploration ordered =
      explore(parse(fmt::format(kPassing, "release")), Model::kCpp20).value();
  CHECK_FALSE(ordered.has_data_race);
  CHECK_FALSE(ordered.is_reachable);
  CHECK(explore(parse(fmt::format(kPassing, "relaxed")), Model::kCpp20).value().has_data_race);
}

TEST_CASE("Explorer: values that are computed reach other threads", "[loop][memory_model]") {
  const Program program = parse(R"(C chain
{ x=3; y=0; z=0; }
P0 (atomic_int* x) { atomic_fetch_add_explicit(x, 4, memory_order_relaxed); }
P1 (atomic_int* x, atomic_int* y) {
  int r0 = atomic_load_explicit(x, memory_order_relaxed);
  atomic_store_explicit(y, r0 - 1, memory_order_relaxed);
}
P2 (atomic_int* y, atomic_int* z) {
  int r0 = atomic_exchange_explicit(y, 9, memory_order_relaxed);
  if (r0 != 0 && r0 != 2) { *z = r0 | 1; } else { *z = r0 ^ 2; }
}
exists (z=7 /\ 2:r0=6)
)");
  for (const Model model : memory_model::kAllModels) {
    CHECK(explore(program, model).value().is_reachable);
  }
  CHECK(explore(program, Model::kSc).value().outcomes.size() == 4);
}

TEST_CASE("Explorer: a value that only justifies itself does not appear", "[loop][memory_model]") {
  const Program program = parse(R"(C thin-air
{ x=0; y=0; }
P0 (atomic_int* x, atomic_int* y) {
  int r0 = atomic_load_explicit(x, memory_order_relaxed);
  atomic_store_explicit(y, r0, memory_order_relaxed);
}
P1 (atomic_int* x, atomic_int* y) {
  int r0 = atomic_load_explicit(y, memory_order_relaxed);
  atomic_store_explicit(x, r0, memory_order_relaxed);
}
exists (0:r0=42)
)");
  for (const Model model : memory_model::kAllModels) {
    CHECK(explore(program, model).value().outcomes.size() == 1);
  }
}

TEST_CASE("Explorer: a compare-exchange that fails only loads", "[loop][memory_model]") {
  const Program program = parse(R"(C failing
{ x=5; }
P0 (atomic_int* x) {
  int e = 4;
  int ok = atomic_compare_exchange_strong_explicit(x, &e, 6, memory_order_seq_cst, memory_order_relaxed);
}
exists (0:ok=0 /\ 0:e=5 /\ x=5)
)");
  for (const Model model : memory_model::kAllModels) {
    const Exploration exploration = explore(program, model).value();
    CHECK(exploration.is_reachable);
    CHECK(exploration.allowed_executions == 1);
  }
}

TEST_CASE("Explorer: what is too large is refused, not answered in part", "[loop][memory_model]") {
  std::string writes = "C writes\n{ x=0; }\n";
  for (int thread = 0; thread < 4; ++thread) {
    writes += fmt::format("P{} (atomic_int* x) {{", thread);
    for (int i = 0; i < 6; ++i) writes += " *x = 1;";
    writes += " }\n";
  }
  CHECK(failure(writes + "exists (x=0)\n") == "more than 300000 steps of the search");

  std::string branches = "C branches\n{ x=0; }\nP0 (atomic_int* x) {\n int r0 = *x;\n";
  for (int i = 0; i < 13; ++i) branches += fmt::format(" if (r0 == {}) smp_mb();\n", i);
  branches += "}\nP1 (atomic_int* x) { *x = 1; }\nexists (0:r0=1)\n";
  CHECK(failure(branches) == "P0: more than 4096 ways through the branches");

  std::string fences = "C fences\n{ x=0; }\n";
  for (int thread = 0; thread < 4; ++thread) {
    fences += fmt::format("P{} (atomic_int* x) {{", thread);
    for (int i = 0; i < 20; ++i) fences += " smp_mb();";
    fences += " }\n";
  }
  CHECK(failure(fences + "exists (x=0)\n") == "more than 64 reads, writes and fences");
}

/// Store buffering among reads and writes of three threads to words that do not matter: eight to
/// eleven operations each. `fence` stands between the store and the load.
std::string store_buffering_in_a_crowd(std::string_view fence) {
  constexpr std::string_view kThread = "P{} (atomic_int* x, atomic_int* y, atomic_int* a) {{{}}}\n";
  constexpr std::string_view kCrowd = R"(
  int s{0} = atomic_load_explicit(a, memory_order_relaxed);
  atomic_store_explicit(a, {0}, memory_order_relaxed);
  int t{0} = atomic_exchange_explicit(a, 1{0}, memory_order_relaxed);
  int u{0} = atomic_load_explicit(a, memory_order_acquire);
)";
  constexpr std::string_view kSide = R"(
  atomic_store_explicit({}, 1, memory_order_relaxed);
  {}
  int r = atomic_load_explicit({}, memory_order_relaxed);
)";
  const auto crowd = [&](int number) { return fmt::format(kCrowd, number); };
  return "C crowd\n{ x=0; y=0; a=0; }\n" +
         fmt::format(kThread, 0, crowd(1) + fmt::format(kSide, "x", fence, "y") + crowd(2)) +
         fmt::format(kThread, 1, crowd(3) + fmt::format(kSide, "y", fence, "x") + crowd(4)) +
         fmt::format(kThread, 2, crowd(5) + crowd(6)) + "exists (0:r=0 /\\ 1:r=0)\n";
}

TEST_CASE("Explorer: executions that are too many to count still give a verdict",
          "[loop][memory_model]") {
  const Program bare = parse(store_buffering_in_a_crowd(""));
  const Exploration yes = explore(bare, Model::kX86Tso).value();
  CHECK_FALSE(yes.has_all_executions);
  CHECK(yes.is_reachable);
  CHECK(yes.witness.has_value());

  const Program fenced = parse(store_buffering_in_a_crowd("smp_mb();"));
  for (const Model model : {Model::kX86Tso, Model::kArmv8LlSc}) {
    const Exploration no = explore(fenced, model).value();
    CHECK_FALSE(no.has_all_executions);
    CHECK_FALSE(no.is_reachable);
  }
}

TEST_CASE("Explorer: an address may depend on a value, not be changed by it",
          "[loop][memory_model]") {
  CHECK(failure(R"(C index
{ x=0; y=0; }
P0 (atomic_int* x, atomic_int* y) {
  int r0 = atomic_load_explicit(x, memory_order_relaxed);
  int r1 = atomic_load_explicit(y + r0, memory_order_relaxed);
}
P1 (atomic_int* x) { *x = 1; }
exists (0:r1=1)
)") == "line 5: an index may be 1, but is there only to make a dependency and must be 0, as in "
       "x + (r0 ^ r0)");
}

TEST_CASE("Notation: a program is listed in one line a statement", "[loop][memory_model]") {
  const Program program = parse(R"(C listing
{ x=0; y=0; }
P0 (atomic_int* x, int* y, mtx_t* m) {
  int e = 0;
  int r0 = atomic_load_explicit(x, memory_order_acquire);
  if (r0 == 1 || !e) {
    atomic_store_explicit(x + (r0 ^ r0), r0 + 2, memory_order_release);
  } else {
    smp_mb();
  }
  atomic_compare_exchange_strong(x, &e, 3);
  int r1 = __sync_fetch_and_or(x, 4);
  mtx_lock(m);
  *y = 1;
  mtx_unlock(m);
  atomic_mb_set(x, 5);
}
exists (x=5)
)");
  CHECK(listing(program, program.threads.front()) ==
        std::vector<std::string>{"e = 0", "r0 = load(x, acquire)", "if (r0 == 1) || !e",
                                 "  store(x + (r0 ^ r0), r0 + 2, release)", "else",
                                 "  fence(seq_cst)", "compare_exchange(x, e -> 3, seq_cst)",
                                 "r1 = fetch_or(x, 4, __sync)", "lock(m)", "store(y, 1, plain)",
                                 "unlock(m)", "mb_set(x, 5)"});
}

}  // namespace imgconv
