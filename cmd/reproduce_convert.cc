#include "cmd/reproduce_convert.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <system_error>
#include <utility>

#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kDefaultIterations = 500;

// Many requests that finish close together, hence many chances for a wake-up to get lost: one for
// each run of data in the source, however short.
constexpr uint64_t kChunkGoal = 4 * kKiB;

/// A small disk with data and holes by turns: many requests, hence many chances for a wake-up to
/// get lost, in a few milliseconds.
Result<void> write_disk(const std::string& name) {
  constexpr uint64_t kDiskSize = 8 * kMiB;
  constexpr uint64_t kPiece = 64 * kKiB;
  std::ofstream disk(name, std::ios::binary);
  std::array<char, kPiece> piece;
  // Any bytes that are not zero; the same in each run.
  std::minstd_rand random;
  for (char& byte : piece) byte = static_cast<char>(1 + random() % 255);
  for (uint64_t offset = 0; offset < kDiskSize; offset += 2 * kPiece) {
    disk.seekp(static_cast<std::streamoff>(offset));
    disk.write(piece.data(), piece.size());
  }
  disk.close();
  if (!disk) return Error(EIO, "cannot write " + name);
  return ok();
}

std::string result_line(uint64_t number, const IterationResult& result) {
  const double seconds = static_cast<double>(result.elapsed_ns) / kNsPerSecond;
  if (result.end == IterationEnd::kFinished) {
    return fmt::format("{:4}  {:.3f} s  ok\n", number, seconds);
  }
  const bool is_given_up = result.end == IterationEnd::kGivenUp;
  return fmt::format("{:4}  {:.3f} s  {} at {:.2f}%{}\n", number, seconds,
                     is_given_up ? "HUNG?" : "HUNG", percent_done(result.figures),
                     is_given_up ? ", by the time limit" : "");
}

InfoValue::Object result_json(uint64_t number, const IterationResult& result) {
  InfoValue::Object row;
  add_member(row, "number", number);
  add_member(row, "elapsed-ns", result.elapsed_ns);
  add_member(row, "hung", result.end == IterationEnd::kHung);
  add_member(row, "given-up", result.end == IterationEnd::kGivenUp);
  if (!result.evidence) return row;
  add_member(row, "percent-done", percent_done(result.figures));
  row.emplace_back("evidence", evidence_json(*result.evidence));
  return row;
}

void add(RunStatistics& statistics, const IterationResult& result) {
  ++statistics.runs;
  statistics.hangs += result.end == IterationEnd::kHung ? 1 : 0;
  statistics.given_up += result.end == IterationEnd::kGivenUp ? 1 : 0;
  statistics.elapsed_ns += result.elapsed_ns;
  statistics.sleeps += result.figures.sleeps;
  statistics.wakeups += result.figures.wakeups;
  statistics.completions += result.figures.jobs_posted;
}

}  // namespace

ConvertSeries::ConvertSeries(const Report& report, const ReproduceOptions& options,
                             SignalWait& signals, ScratchFolder folder)
    : report_(report), options_(options), signals_(signals), folder_(std::move(folder)) {
  setup_.pinning = options.pinning;
  setup_.cold_stores = options.cold_stores;
  setup_.timeout_ns = options.timeout_s * kNsPerSecond;
  if (options.convert) {
    setup_.convert = options.convert->options;
    setup_.pool_threads = options.convert->runtime.pool_threads;
  } else {
    setup_.convert.sources = {folder_.file("source.qcow2")};
    setup_.convert.source_format = "qcow2";
    setup_.convert.target_format = "qcow2";
  }
  setup_.convert.chunk_goal = kChunkGoal;
  // Nobody wants the copy, so nobody waits for the disk.
  setup_.convert.sync = false;
  setup_.convert.replace = false;
  // The user's target gives the command line its shape and is never touched.
  setup_.convert.target = folder_.file("target");
}

Result<ConvertSeries> ConvertSeries::create(const Report& report, const ReproduceOptions& options,
                                            SignalWait& signals) {
  ASSIGN_OR_RETURN(ScratchFolder folder, ScratchFolder::create());
  ConvertSeries series(report, options, signals, std::move(folder));
  if (!options.convert) RETURN_IF_ERROR(series.make_source());
  return series;
}

Result<void> ConvertSeries::make_source() {
  const std::string disk = folder_.file("disk");
  RETURN_IF_ERROR(write_disk(disk));
  IterationSetup setup = setup_;
  setup.protocol = "current";
  setup.convert.sources = {disk};
  setup.convert.source_format = "raw";
  setup.convert.target = setup_.convert.sources.front();
  ASSIGN_OR_RETURN(const IterationResult result,
                   run_iteration(report_, setup, options_.seed,
                                 /*wants_backtrace=*/false, signals_));
  if (result.evidence) return Error(EIO, "the image could not be made in time");
  return ok();
}

Result<RunStatistics> ConvertSeries::run(const Request& request, const OnIteration& on_iteration) {
  IterationSetup setup = setup_;
  setup.protocol = request.protocol;
  setup.memory = request.memory;
  RunStatistics statistics;
  for (uint64_t number = 1; number <= request.iterations && !signals_.interruption(); ++number) {
    // ext4 writes a file out that takes the place of another one. What was never on the disk need
    // not go there.
    std::error_code ignored;
    std::filesystem::remove(setup.convert.target, ignored);
    const bool wants_backtrace = request.wants_backtrace && statistics.stopped() == 0;
    ASSIGN_OR_RETURN(
        const IterationResult result,
        run_iteration(report_, setup, options_.seed + number, wants_backtrace, signals_));
    if (result.end == IterationEnd::kInterrupted) break;
    add(statistics, result);
    on_iteration(number, result);
    if (request.stops_at_first_hang && statistics.stopped() > 0) break;
  }
  return statistics;
}

Result<int> reproduce_convert(const Report& report, const ReproduceOptions& options,
                              SignalWait& signals) {
  ASSIGN_OR_RETURN(ConvertSeries series, ConvertSeries::create(report, options, signals));
  const bool is_human = options.output == OutputFormat::kHuman;
  ConvertSeries::Request request;
  request.protocol = options.protocol;
  request.memory = options.memory;
  request.iterations = options.iterations.value_or(kDefaultIterations);
  request.wants_backtrace = true;
  if (is_human) {
    print_out("protocol {}, memory {}, {} converts, seed {}\n", options.protocol,
              name(options.memory), request.iterations, options.seed);
  }
  InfoValue::Array rows;
  const auto on_iteration = [&](uint64_t number, const IterationResult& result) {
    if (!is_human) {
      rows.emplace_back().value = result_json(number, result);
      return;
    }
    print_text(result_line(number, result));
    if (result.evidence) print_text(evidence_text(*result.evidence));
    // Whoever watches a loop of hours wants to see each line.
    std::fflush(stdout);
  };
  ASSIGN_OR_RETURN(const RunStatistics statistics, series.run(request, on_iteration));
  if (is_human) {
    print_text(statistics_text(statistics));
  } else {
    InfoValue document;
    InfoValue::Object& object = document.value.emplace<InfoValue::Object>();
    add_member(object, "level", std::string("convert"));
    add_member(object, "protocol", options.protocol);
    add_member(object, "memory", std::string(name(options.memory)));
    add_member(object, "seed", options.seed);
    add_member(object, "iterations", std::move(rows));
    add_statistics(object, statistics);
    print_out("{}\n", to_json(document));
  }
  return statistics.stopped() > 0 ? kHangSeen : 0;
}

}  // namespace imgconv
