// The convert level of `reproduce`: one convert after the other, as the reporters of the hang did
// it, in a folder of its own. Main thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cmd/child_process.h"
#include "cmd/report.h"
#include "cmd/reproduce_iteration.h"
#include "cmd/reproduce_options.h"
#include "cmd/reproduce_statistics.h"
#include "cmd/scratch_folder.h"
#include "loop/result.h"

namespace imgconv {

class ConvertSeries {
 public:
  /// Makes the folder, and the image if none is given. Both must outlive it.
  static Result<ConvertSeries> create(const Report& report, const ReproduceOptions& options,
                                      SignalWait& signals);

  struct Request {
    std::string protocol;
    history::Memory memory = history::Memory::kNative;
    uint64_t iterations = 0;
    /// What the time limit gives up counts as one here.
    bool stops_at_first_hang = false;
    /// gdb is asked once: it takes longer than all the rest, and later hangs look the same.
    bool wants_backtrace = false;
  };
  using OnIteration = std::function<void(uint64_t number, const IterationResult& result)>;

  /// Until all iterations are done or a signal came. Iteration n runs with seed + n.
  Result<RunStatistics> run(const Request& request, const OnIteration& on_iteration);

 private:
  ConvertSeries(const Report& report, const ReproduceOptions& options, SignalWait& signals,
                ScratchFolder folder);
  Result<void> make_source();

  const Report& report_;
  const ReproduceOptions& options_;
  SignalWait& signals_;
  ScratchFolder folder_;
  IterationSetup setup_;
};

/// `reproduce --level convert` for one protocol. The exit code.
Result<int> reproduce_convert(const Report& report, const ReproduceOptions& options,
                              SignalWait& signals);

}  // namespace imgconv
