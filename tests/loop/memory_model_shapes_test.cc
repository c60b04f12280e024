// The explorer against published verdicts, and against itself with a piece of a model missing.
#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "loop/memory_model/explore.h"
#include "loop/memory_model/litmus.h"
#include "tests/support/litmus_shapes.h"

namespace imgconv {
namespace {

using memory_model::Clause;
using memory_model::ClauseSet;
using memory_model::Exploration;
using memory_model::Model;
using memory_model::Program;

/// The models that a clause is part of.
std::vector<Model> models_of(Clause clause) {
  const std::vector<Model> armv8 = {Model::kArmv8LlSc, Model::kArmv8Lse, Model::kArmv8Rcpc};
  if (clause == Clause::kCoherence) {
    return {Model::kX86Tso, Model::kArmv8LlSc, Model::kArmv8Lse, Model::kArmv8Rcpc};
  }
  if (clause == Clause::kAtomicity) return {Model::kX86Tso, Model::kArmv8LlSc, Model::kCpp20};
  if (clause <= Clause::kScCommunication) return {Model::kSc};
  if (clause <= Clause::kTsoCoherence) return {Model::kX86Tso};
  if (clause <= Clause::kArmRelease) return armv8;
  return {Model::kCpp20};
}

bool is_reachable(const Program& program, Model model, const ClauseSet& dropped) {
  const memory_model::Exploration exploration = explore(program, model, dropped).value();
  return exploration.is_reachable;
}

/// Without the clause, some shape changes its verdict.
bool matters(Clause clause, Model model, const std::vector<Program>& programs) {
  ClauseSet dropped;
  dropped.set(static_cast<size_t>(clause));
  return std::any_of(programs.begin(), programs.end(), [&](const Program& program) {
    return is_reachable(program, model, dropped) != is_reachable(program, model, {});
  });
}

}  // namespace

TEST_CASE("Memory models: each classic shape has its published verdict under each model",
          "[loop][memory_model]") {
  for (const test::Shape& shape : test::classic_shapes()) {
    INFO(test::to_litmus(shape));
    CHECK(test::allowed_by(test::to_litmus(shape)) == shape.allowed);
  }
}

TEST_CASE("Memory models: no clause of a model can be left out without a verdict changing",
          "[loop][memory_model]") {
  std::vector<Program> programs;
  for (const test::Shape& shape : test::classic_shapes()) {
    programs.push_back(memory_model::parse_litmus(test::to_litmus(shape)).value());
  }
  for (size_t i = 0; i < memory_model::kClauseCount; ++i) {
    const Clause clause = static_cast<Clause>(i);
    const std::vector<Model> models = models_of(clause);
    INFO("clause " << i);
    CHECK(std::any_of(models.begin(), models.end(),
                      [&](Model model) { return matters(clause, model, programs); }));
  }
}

}  // namespace imgconv
