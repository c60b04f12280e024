// The variants as code against the case file's litmus tests: the same operations on the same words
// in the same order, with the same memory orders and values.
#include <catch2/catch.hpp>
#include <set>
#include <string>
#include <string_view>

#include "loop/history/case_file.h"
#include "loop/history/catalogue.h"
#include "loop/history/dispatching.h"
#include "loop/history/loop_protocol.h"
#include "loop/memory_model/litmus.h"
#include "tests/support/history_trace.h"

namespace imgconv::history {
namespace {

using memory_model::Program;
using test::StraightProgram;
using test::Trace;
using test::WordNames;

/// The push of the shipped inbox begins with a guess at the head, a relaxed load on whose value
/// nothing depends: the compare-exchange corrects it. The case file leaves it out.
void leave_out_guess(std::string_view id, Trace& trace) {
  if (id == "current") trace.erase_first();
}

struct HoldAgainstCaseFile {
  template <class Variant>
  void operator()(std::string_view id) const {
    INFO(std::string(id));
    const Case* const entry = find_case(id);
    REQUIRE(entry != nullptr);
    const Result<Program> parsed = memory_model::parse_litmus(entry->litmus);
    REQUIRE(parsed);
    REQUIRE(parsed->threads.size() == 2);
    const StraightProgram program(*parsed);

    WordNames names;
    // One object for each side, so that neither sees what the other did.
    Variant for_loop;
    Variant for_worker;
    hold(for_loop, record(for_loop, &Variant::loop_side), program, 0, names);
    Trace worker = record(for_worker, &Variant::worker_side);
    leave_out_guess(id, worker);
    hold(for_worker, worker, program, 1, names);
  }

  template <class Variant>
  static Trace record(Variant& variant, void (Variant::*side)()) {
    Trace recorded;
    variant.before_program();
    test::this_threads_trace = &recorded;
    (variant.*side)();
    test::this_threads_trace = nullptr;
    return recorded;
  }

  template <class Variant>
  static void hold(const Variant& variant, const Trace& trace, const StraightProgram& program,
                   size_t side, WordNames& names) {
    INFO("side " << side);
    const auto& operations = program.side(side);
    REQUIRE(trace.size() == operations.size());
    CHECK(program.common_length(side, trace) == operations.size());
    for (size_t i = 0; i < operations.size(); ++i) {
      INFO("line " << operations[i].line);
      if (trace[i].word == nullptr) continue;
      CHECK(names.unite(&variant, trace[i].word, operations[i].location));
    }
  }
};

TEST_CASE("History: the code of each variant performs the program of its case", "[loop]") {
  visit_catalogue<test::Traced<NativeSync>>(HoldAgainstCaseFile{});
}

TEST_CASE("History: the three sides of the dispatching optimisation perform its program",
          "[loop]") {
  using Words = Dispatching<test::Traced<NativeSync>>;
  const StraightProgram program(
      test::without_branches(*memory_model::parse_litmus(find_case("V1")->litmus)));
  WordNames names;
  size_t side = 0;
  for (bool (Words::*const run)() :
       {&Words::event_loop_side, &Words::nested_side, &Words::worker_side}) {
    Words words;
    Trace recorded;
    test::this_threads_trace = &recorded;
    const bool must_signal = (words.*run)();
    test::this_threads_trace = nullptr;
    HoldAgainstCaseFile::hold(words, recorded, program, side, names);
    // Alone, only a worker has somebody to wake: the nested poll knows of itself.
    CHECK(must_signal == (side == 2));
    ++side;
  }
}

TEST_CASE("History: each case is a protocol and each protocol is a case", "[loop]") {
  std::set<std::string_view> cases;
  for (const Case& entry : case_file()) cases.insert(entry.id);
  std::set<std::string_view> protocols;
  for (const std::string_view id : loop_protocol_ids()) protocols.insert(id);
  CHECK(cases == protocols);
  CHECK(protocols.size() == loop_protocol_ids().size());
}

}  // namespace
}  // namespace imgconv::history
