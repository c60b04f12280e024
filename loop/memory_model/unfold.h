// unfold: what a thread may do alone, for every combination of values that its reads might return.
// Which of these fit together is explore()'s business. Internal to the explorer; pure, any thread.
#pragma once

#include <set>
#include <vector>

#include "loop/memory_model/execution.h"
#include "loop/memory_model/model.h"
#include "loop/memory_model/program.h"
#include "loop/result.h"

namespace imgconv::memory_model {

/// By LocationId: the values that a read may return.
using Domains = std::vector<std::set<int64_t>>;

/// E2BIG beyond kMaxTraces, or for a thread of more than kMaxEvents events.
inline constexpr size_t kMaxTraces = 4'096;

Result<std::vector<Trace>> unfold(const Program& program, uint32_t thread, Model model,
                                  const Domains& domains);

}  // namespace imgconv::memory_model
