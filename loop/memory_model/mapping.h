// The mapping table: which instructions a C++ operation becomes under each model, and what the
// model sees of them. The only place that knows. Internal to the explorer; pure, any thread.
#pragma once

#include <string>

#include "loop/memory_model/execution.h"
#include "loop/memory_model/model.h"
#include "loop/memory_model/program.h"

namespace imgconv::memory_model {

/// The events of one statement, in order: read, write, fence, each of them or not. Which accesses
/// there are is the statement's matter.
struct Recipe {
  Tags read = 0;
  Tags write = 0;
  bool has_fence = false;
  Tags fence = 0;
  /// The value that was read decides a branch: a compare-exchange by an exclusive pair.
  bool branches_on_read = false;
  std::string read_instruction;
  std::string write_instruction;
  /// Empty if it is part of the instruction in front of it.
  std::string fence_instruction;
};

/// Of an access, a fence or a mutex operation.
Recipe recipe(Model model, const Statement& statement);

/// Of a kCompareExchange that finds another value than the expected one.
Recipe failure_recipe(Model model, const Statement& statement);

}  // namespace imgconv::memory_model
