#include "cmd/reproduce_evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "cmd/json_writer.h"
#include "loop/timer.h"

namespace imgconv {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr std::string_view kIndent = "        ";

const char* name(history::LoopPhase phase) {
  switch (phase) {
    case history::LoopPhase::kNotStarted:
      return "not started";
    case history::LoopPhase::kPrepare:
      return "prepare";
    case history::LoopPhase::kPoll:
      return "poll";
    case history::LoopPhase::kCheck:
      return "check";
    case history::LoopPhase::kDispatch:
      return "dispatch";
  }
  return "";
}

const char* name(HangVerdict verdict) {
  switch (verdict) {
    case HangVerdict::kProved:
      return "proved";
    case HangVerdict::kLikely:
      return "likely";
    case HangVerdict::kTimeLimit:
      return "time-limit";
  }
  return "";
}

const char* reason(HangVerdict verdict) {
  switch (verdict) {
    case HangVerdict::kProved:
      return "all threads sleep without a limit and nothing is signalled";
    case HangVerdict::kLikely:
      return "probably a lost wake-up: requests are completed, and the system hides what the "
             "threads wait for";
    case HangVerdict::kTimeLimit:
      return "given up by the time limit";
  }
  return "";
}

/// What happened last of each kind, oldest first.
std::vector<std::pair<int64_t, const char*>> last_events(const history::LoopFigures& figures) {
  std::vector<std::pair<int64_t, const char*>> events = {{figures.prepare_ns, "prepare"},
                                                         {figures.poll_ns, "poll"},
                                                         {figures.check_ns, "check"},
                                                         {figures.dispatch_ns, "dispatch"},
                                                         {figures.schedule_ns, "schedule"}};
  std::stable_sort(events.begin(), events.end());
  return events;
}

uint64_t undelivered(const history::LoopFigures& figures) {
  return std::max(figures.jobs_posted, figures.jobs_dispatched) - figures.jobs_dispatched;
}

std::string_view role(const Evidence& evidence, const ThreadFacts& thread) {
  if (thread.id == evidence.loop_thread) return "loop";
  return thread.name == "observer" ? "observer" : "worker";
}

std::string line(std::string_view text) { return fmt::format("{}{}\n", kIndent, text); }

/// Each with its distance to the one before.
std::string events_text(const history::LoopFigures& figures) {
  std::string text = "last events:";
  int64_t previous_ns = 0;
  for (const auto& [time_ns, event] : last_events(figures)) {
    if (time_ns == 0) continue;
    text += previous_ns == 0 ? fmt::format(" {}", event)
                             : fmt::format(", {} +{} ns", event, time_ns - previous_ns);
    previous_ns = time_ns;
  }
  return text;
}

std::string state_text(const Evidence& evidence) {
  if (!evidence.state) return "protocol: the process does not answer";
  std::string text = "protocol:";
  for (const auto& word : evidence.state->words) {
    text += fmt::format(" {}={}", word.name, word.value);
  }
  for (const uint64_t counter : evidence.process.event_counters) {
    text += fmt::format(" eventfd={}", counter);
  }
  return text;
}

std::string thread_text(const Evidence& evidence, const ThreadFacts& thread) {
  std::string text = fmt::format("  {} {:<8}", thread.id, role(evidence, thread));
  if (thread.state == 'T') text += " stopped by a signal,";
  if (thread.system_call) {
    text += " " + describe_system_call(*thread.system_call);
  } else {
    text += " runs, or what it waits for is hidden";
  }
  if (!thread.wait_channel.empty()) text += fmt::format(" ({})", thread.wait_channel);
  return text;
}

}  // namespace

double percent_done(const history::LoopFigures& figures) {
  if (figures.bytes_total == 0) return 0;
  return 100.0 * static_cast<double>(figures.bytes_done) / static_cast<double>(figures.bytes_total);
}

Evidence gather_evidence(const ChildProcess& child, const history::TracePage& page,
                         HangVerdict verdict) {
  constexpr int64_t kAnswerLimitNs = kNsPerSecond;
  Evidence evidence;
  evidence.verdict = verdict;
  evidence.loop_thread = child.id();
  evidence.figures = page.trace().read();
  evidence.process = inspect_process(child.id());
  evidence.state = page.mailbox().ask(kAnswerLimitNs);
  evidence.taken_ns = steady_clock_ns();
  return evidence;
}

void add_backtrace(Evidence& evidence, SignalWait& signals) {
  constexpr int64_t kDebuggerLimitNs = 30 * kNsPerSecond;
  // A debugger that asks servers for symbols would take minutes.
  const std::vector<std::string> command = {"gdb",
                                            "-nx",
                                            "-batch",
                                            "-ex",
                                            "set debuginfod enabled off",
                                            "-ex",
                                            "thread apply all bt",
                                            "-p",
                                            fmt::format("{}", evidence.loop_thread)};
  const std::string output = output_of(command, signals, kDebuggerLimitNs).value_or("");
  // What comes before is about the debugger.
  const size_t begin = output.find("\nThread ");
  if (begin != std::string::npos) evidence.backtrace = output.substr(begin + 1);
}

std::string evidence_text(const Evidence& evidence) {
  const history::LoopFigures& figures = evidence.figures;
  const int64_t latest_ns = last_events(figures).back().first;
  std::string text = line(fmt::format(
      "loop in {}, nothing happened for {:.3f} s; {}", name(figures.phase),
      static_cast<double>(evidence.taken_ns - latest_ns) / kNsPerSecond, reason(evidence.verdict)));
  text +=
      line(fmt::format("completed requests not yet dispatched: {} ({} completed, {} dispatched)",
                       undelivered(figures), figures.jobs_posted, figures.jobs_dispatched));
  text += line(state_text(evidence));
  text += line(events_text(figures));
  text += line("threads:");
  for (const ThreadFacts& thread : evidence.process.threads) {
    text += line(thread_text(evidence, thread));
  }
  if (!evidence.backtrace.empty()) text += evidence.backtrace;
  return text;
}

InfoValue evidence_json(const Evidence& evidence) {
  const history::LoopFigures& figures = evidence.figures;
  InfoValue value;
  InfoValue::Object& object = value.value.emplace<InfoValue::Object>();
  add_member(object, "verdict", std::string(name(evidence.verdict)));
  add_member(object, "is-proved", evidence.verdict == HangVerdict::kProved);
  add_member(object, "phase", std::string(name(figures.phase)));
  add_member(object, "completed", figures.jobs_posted);
  add_member(object, "dispatched", figures.jobs_dispatched);
  InfoValue::Object last;
  for (const auto& [time_ns, event] : last_events(figures)) add_member(last, event, time_ns);
  add_member(object, "last-events-ns", std::move(last));
  InfoValue::Object words;
  if (evidence.state) {
    for (const auto& word : evidence.state->words) {
      add_member(words, word.name.c_str(), word.value);
    }
  }
  add_member(object, "protocol-words", std::move(words));
  InfoValue::Array counters;
  for (const uint64_t counter : evidence.process.event_counters) {
    counters.emplace_back().value = counter;
  }
  add_member(object, "eventfd", std::move(counters));
  InfoValue::Array threads;
  for (const ThreadFacts& thread : evidence.process.threads) {
    InfoValue::Object row;
    add_member(row, "id", int64_t{thread.id});
    add_member(row, "role", std::string(role(evidence, thread)));
    add_member(row, "wait-channel", thread.wait_channel);
    if (thread.system_call) {
      add_member(row, "system-call", describe_system_call(*thread.system_call));
    }
    threads.emplace_back().value = std::move(row);
  }
  add_member(object, "threads", std::move(threads));
  if (!evidence.backtrace.empty()) add_member(object, "backtrace", evidence.backtrace);
  return value;
}

}  // namespace imgconv
