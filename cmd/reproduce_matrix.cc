#include "cmd/reproduce_matrix.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "cmd/reproduce_convert.h"
#include "cmd/reproduce_handoff.h"
#include "cmd/reproduce_statistics.h"
#include "loop/history/case_file.h"
#include "loop/memory_model/explore.h"
#include "loop/memory_model/litmus.h"
#include "loop/memory_model/model.h"
#include "loop/try.h"

#if defined(__aarch64__) && !defined(__ARM_FEATURE_ATOMICS)
// Of libgcc, and in the program only if its atomics are calls (-moutline-atomics): whether these
// have found LSE.
extern "C" [[gnu::weak]] bool __aarch64_have_lse_atomics;
#endif

namespace imgconv {
namespace {

// A hang of these kinds shows within a few; the rest would only take time.
constexpr uint64_t kDefaultIterations = 10;
constexpr uint64_t kDefaultRounds = 20'000;

/// The model of what runs here.
memory_model::Model model_of(history::Memory memory) {
  if (memory == history::Memory::kArmv8) return memory_model::Model::kArmv8LlSc;
#if defined(__aarch64__) && defined(__ARM_FEATURE_ATOMICS)
  return memory_model::Model::kArmv8Lse;
#elif defined(__aarch64__)
  const bool uses_lse = &__aarch64_have_lse_atomics != nullptr && __aarch64_have_lse_atomics;
  return uses_lse ? memory_model::Model::kArmv8Lse : memory_model::Model::kArmv8LlSc;
#else
  return memory_model::Model::kX86Tso;
#endif
}

struct Cell {
  std::string_view protocol;
  history::Memory memory = history::Memory::kNative;
  bool is_loss_predicted = false;
  uint64_t runs = 0;
  uint64_t hangs = 0;
  /// By the time limit: slow or hung.
  uint64_t given_up = 0;

  /// Either the explorer or the emulation is wrong then.
  bool is_contradiction() const { return hangs > 0 && !is_loss_predicted; }
};

Result<bool> predict_loss(std::string_view protocol, history::Memory memory) {
  const history::Case* const entry = history::find_case(protocol);
  if (entry == nullptr) return Error(EINVAL, fmt::format("{} is in no case file", protocol));
  ASSIGN_OR_RETURN(const memory_model::Program program, memory_model::parse_litmus(entry->litmus));
  ASSIGN_OR_RETURN(const memory_model::Exploration exploration,
                   memory_model::explore(program, model_of(memory)));
  return exploration.is_reachable;
}

std::string observed_text(const Cell& cell) {
  std::string text = cell.hangs > 0 ? fmt::format("lost after {}", cell.runs)
                                    : fmt::format("none in {}", cell.runs);
  if (cell.given_up > 0) text += fmt::format(", {} given up by the time limit", cell.given_up);
  if (cell.is_contradiction()) text += " (CONTRADICTION)";
  return text;
}

InfoValue::Object cell_json(const Cell& cell) {
  InfoValue::Object row;
  add_member(row, "protocol", std::string(cell.protocol));
  add_member(row, "memory", std::string(name(cell.memory)));
  add_member(row, "model", std::string(memory_model::name(model_of(cell.memory))));
  add_member(row, "predicted", cell.is_loss_predicted);
  add_member(row, "observed", cell.hangs > 0);
  add_member(row, "runs", cell.runs);
  add_member(row, "given-up", cell.given_up);
  return row;
}

/// Fills in what was seen: runs up to the first loss.
class Observer {
 public:
  Observer(const ReproduceOptions& options, SignalWait* signals)
      : options_(options), signals_(signals) {}

  Result<void> prepare(const Report& report) {
    if (options_.level == ReproduceLevel::kHandoff) return ok();
    ASSIGN_OR_RETURN(ConvertSeries series, ConvertSeries::create(report, options_, *signals_));
    series_.emplace(std::move(series));
    return ok();
  }

  Result<void> observe(Cell& cell) { return series_ ? convert(cell) : hand_off(cell); }

 private:
  Result<void> convert(Cell& cell) {
    ConvertSeries::Request request;
    request.protocol = cell.protocol;
    request.memory = cell.memory;
    request.iterations = options_.iterations.value_or(kDefaultIterations);
    request.stops_at_first_hang = true;
    ASSIGN_OR_RETURN(const RunStatistics statistics,
                     series_->run(request, [](uint64_t, const IterationResult&) {}));
    cell.runs = statistics.runs;
    cell.hangs = statistics.hangs;
    cell.given_up = statistics.given_up;
    return ok();
  }

  Result<void> hand_off(Cell& cell) {
    const std::string protocol(cell.protocol);
    history::HandoffOptions options = handoff_options(options_, protocol, cell.memory,
                                                      options_.iterations.value_or(kDefaultRounds));
    options.max_lost = 1;
    ASSIGN_OR_RETURN(const history::HandoffReport report, history::run_handoff(options));
    cell.runs = report.rounds;
    cell.hangs = report.lost;
    return ok();
  }

  const ReproduceOptions& options_;
  SignalWait* const signals_;
  std::optional<ConvertSeries> series_;
};

void print_header() {
  print_out("{:<18} {:<7} {:<10} {}\n", "protocol", "memory", "predicted", "observed here");
}

void print_cell(const Cell& cell) {
  print_out("{:<18} {:<7} {:<10} {}\n", cell.protocol, name(cell.memory),
            cell.is_loss_predicted ? "lost" : "never", observed_text(cell));
  std::fflush(stdout);
}

}  // namespace

Result<int> reproduce_matrix(const Report& report, const ReproduceOptions& options,
                             SignalWait* signals) {
  const bool is_human = options.output == OutputFormat::kHuman;
  Observer observer(options, signals);
  RETURN_IF_ERROR(observer.prepare(report));
  if (is_human) print_header();
  InfoValue document;
  InfoValue::Array& rows = document.value.emplace<InfoValue::Array>();
  bool was_hang_seen = false;
  for (const std::string_view protocol : history::loop_protocol_ids()) {
    for (const history::Memory memory : {history::Memory::kNative, history::Memory::kArmv8}) {
      Cell cell;
      cell.protocol = protocol;
      cell.memory = memory;
      ASSIGN_OR_RETURN(cell.is_loss_predicted, predict_loss(protocol, memory));
      RETURN_IF_ERROR(observer.observe(cell));
      if (signals != nullptr && signals->interruption()) return 1;
      was_hang_seen = was_hang_seen || cell.hangs + cell.given_up > 0;
      if (is_human) {
        print_cell(cell);
      } else {
        rows.emplace_back().value = cell_json(cell);
      }
    }
  }
  if (!is_human) print_out("{}\n", to_json(document));
  return was_hang_seen ? kHangSeen : 0;
}

}  // namespace imgconv
