// What a series of runs says: how often it hung, how often per million sleeps, and how rare it must
// be if it never did. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "formats/info_value.h"

namespace imgconv {

struct RunStatistics {
  uint64_t runs = 0;
  uint64_t hangs = 0;
  /// By the time limit. Whether they hung is not known, so no rate and no bound is about them.
  uint64_t given_up = 0;
  int64_t elapsed_ns = 0;
  /// Of the loops, over all runs.
  uint64_t sleeps = 0;
  uint64_t wakeups = 0;
  uint64_t completions = 0;

  /// Converts that did not end by themselves.
  uint64_t stopped() const { return hangs + given_up; }
  uint64_t judged() const { return runs - given_up; }
};

/// The largest probability that gives none in `runs` runs in at least 5% of all cases: the exact
/// form of the "rule of three". Requires: runs > 0.
double upper_bound_95(uint64_t runs);

/// "3 of 500 (0.6%)", or "0 of 500: below 0.6% (95% confidence)".
std::string hangs_text(uint64_t hangs, uint64_t runs);

/// Several lines.
std::string statistics_text(const RunStatistics& statistics);
void add_statistics(InfoValue::Object& object, const RunStatistics& statistics);

}  // namespace imgconv
