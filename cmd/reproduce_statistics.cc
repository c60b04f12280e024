#include "cmd/reproduce_statistics.h"

#include <fmt/format.h>

#include <cmath>

#include "cmd/json_writer.h"

namespace imgconv {
namespace {

double per_second(uint64_t count, int64_t elapsed_ns) {
  if (elapsed_ns <= 0) return 0;
  return static_cast<double>(count) * 1e9 / static_cast<double>(elapsed_ns);
}

double per_million(uint64_t count, uint64_t of) {
  return of == 0 ? 0 : static_cast<double>(count) * 1e6 / static_cast<double>(of);
}

/// 90%, 0.6%, 0.03%: two significant digits below 10%.
std::string percent(double fraction) {
  return fraction < 0.1 ? fmt::format("{:.2g}%", 100 * fraction)
                        : fmt::format("{:.0f}%", 100 * fraction);
}

}  // namespace

double upper_bound_95(uint64_t runs) {
  constexpr double kDoubt = 0.05;
  // (1 - p)^runs = kDoubt.
  return -std::expm1(std::log(kDoubt) / static_cast<double>(runs));
}

std::string hangs_text(uint64_t hangs, uint64_t runs) {
  if (runs == 0) return "no run";
  if (hangs == 0) {
    return fmt::format("0 of {}: below {} (95% confidence)", runs, percent(upper_bound_95(runs)));
  }
  return fmt::format("{} of {} ({})", hangs, runs,
                     percent(static_cast<double>(hangs) / static_cast<double>(runs)));
}

std::string statistics_text(const RunStatistics& statistics) {
  std::string text = fmt::format("hangs: {}\n", hangs_text(statistics.hangs, statistics.judged()));
  if (statistics.given_up > 0) {
    text += fmt::format("given up by the time limit: {} of {}, slow or hung\n", statistics.given_up,
                        statistics.runs);
  }
  text += fmt::format("{} completions, {} sleeps, {} wake-ups: {:.0f} wake-ups per second\n",
                      statistics.completions, statistics.sleeps, statistics.wakeups,
                      per_second(statistics.wakeups, statistics.elapsed_ns));
  // Most lost wake-ups hang nothing, as the next completion brings the lost one along.
  const double rate = per_million(statistics.hangs, statistics.sleeps);
  text += "lost wake-ups that hung the convert: ";
  return text + (rate < 100 ? fmt::format("{:.2g} per million sleeps\n", rate)
                            : fmt::format("{:.0f} per million sleeps\n", rate));
}

void add_statistics(InfoValue::Object& object, const RunStatistics& statistics) {
  add_member(object, "runs", statistics.runs);
  add_member(object, "hangs", statistics.hangs);
  add_member(object, "given-up", statistics.given_up);
  add_member(object, "elapsed-ns", statistics.elapsed_ns);
  add_member(object, "completions", statistics.completions);
  add_member(object, "sleeps", statistics.sleeps);
  add_member(object, "wake-ups", statistics.wakeups);
  add_member(object, "wake-ups-per-second", per_second(statistics.wakeups, statistics.elapsed_ns));
  add_member(object, "hangs-per-million-sleeps", per_million(statistics.hangs, statistics.sleeps));
  if (statistics.hangs == 0 && statistics.judged() > 0) {
    add_member(object, "hang-probability-below", upper_bound_95(statistics.judged()));
  }
}

}  // namespace imgconv
