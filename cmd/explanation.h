// Explanation: a wake-up protocol, or another litmus test, with what the memory models say about
// it; and its two printed forms. Pure functions; main thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/info_value.h"
#include "loop/history/case_file.h"
#include "loop/memory_model/explore.h"
#include "loop/memory_model/model.h"
#include "loop/memory_model/program.h"
#include "loop/result.h"

namespace imgconv {

struct Verdict {
  memory_model::Model model;
  memory_model::Exploration exploration;
};

struct Explanation {
  /// Null for a test of the user's own.
  const history::Case* history = nullptr;
  /// On the heap, since explorations refer to it.
  std::unique_ptr<memory_model::Program> program;
  std::vector<Verdict> verdicts;
};

/// `name` is in front of errors in the text.
Result<Explanation> explain(const history::Case* history, std::string_view litmus,
                            std::span<const memory_model::Model> models, const std::string& name);

/// Everything: text, program side by side, verdicts, and a timeline for each yes.
void print_in_full(const Explanation& explanation);
/// A row each, a column for each model.
void print_table(std::span<const Explanation> explanations);

/// "id", "title", "source", "observed" and "verdicts".
InfoValue summary_value(const Explanation& explanation);
/// These, and "programs", "condition", "executions" and "witnesses".
InfoValue full_value(const Explanation& explanation);

}  // namespace imgconv
