#include "cmd/reproduce_handoff.h"

#include <fmt/format.h>

#include <cstdio>
#include <limits>
#include <utility>

#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "cmd/reproduce_statistics.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr uint64_t kDefaultRounds = 1'000'000;

std::string report_text(const history::HandoffReport& report) {
  std::string text =
      fmt::format("{} rounds in {:.1f} s: {:.0f} per second\n", report.rounds, report.seconds,
                  report.seconds > 0 ? static_cast<double>(report.rounds) / report.seconds : 0);
  text += fmt::format("{} sleeps, {} wake-ups; {} completions rescued\n", report.sleeps,
                      report.wake_ups, report.rescued);
  text += fmt::format("lost: {}\n", hangs_text(report.lost, report.sleeps));
  text +=
      fmt::format("lost wake-ups: {:.3g} per million sleeps\n", report.lost_per_million_sleeps());
  return text;
}

InfoValue report_json(const ReproduceOptions& options, const history::HandoffReport& report) {
  InfoValue document;
  InfoValue::Object& object = document.value.emplace<InfoValue::Object>();
  add_member(object, "level", std::string("handoff"));
  add_member(object, "protocol", options.protocol);
  add_member(object, "memory", std::string(name(options.memory)));
  add_member(object, "seed", options.seed);
  add_member(object, "rounds", report.rounds);
  add_member(object, "seconds", report.seconds);
  add_member(object, "sleeps", report.sleeps);
  add_member(object, "wake-ups", report.wake_ups);
  add_member(object, "lost", report.lost);
  add_member(object, "rescued", report.rescued);
  add_member(object, "lost-per-million-sleeps", report.lost_per_million_sleeps());
  if (report.lost == 0 && report.sleeps > 0) {
    add_member(object, "loss-probability-below", upper_bound_95(report.sleeps));
  }
  return document;
}

}  // namespace

history::HandoffOptions handoff_options(const ReproduceOptions& options,
                                        const std::string& protocol, history::Memory memory,
                                        uint64_t max_rounds) {
  history::HandoffOptions handoff;
  handoff.protocol = protocol;
  handoff.memory = memory;
  handoff.seed = options.seed;
  handoff.max_rounds = max_rounds;
  handoff.max_seconds = std::numeric_limits<double>::max();
  handoff.pinning = options.pinning;
  handoff.cold_stores = options.cold_stores;
  if (options.max_delay) handoff.max_delay = *options.max_delay;
  if (options.requests) handoff.jobs_per_round = *options.requests;
  return handoff;
}

Result<int> reproduce_handoff(const ReproduceOptions& options) {
  const uint64_t rounds = options.iterations.value_or(kDefaultRounds);
  const bool is_human = options.output == OutputFormat::kHuman;
  if (is_human) {
    print_out("protocol {}, memory {}, {} hand-offs, seed {}\n", options.protocol,
              name(options.memory), rounds, options.seed);
    std::fflush(stdout);
  }
  ASSIGN_OR_RETURN(
      const history::HandoffReport report,
      history::run_handoff(handoff_options(options, options.protocol, options.memory, rounds)));
  if (is_human) {
    print_text(report_text(report));
  } else {
    print_out("{}\n", to_json(report_json(options, report)));
  }
  return report.lost > 0 ? kHangSeen : 0;
}

}  // namespace imgconv
