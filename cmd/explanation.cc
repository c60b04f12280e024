#include "cmd/explanation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "loop/memory_model/litmus.h"
#include "loop/memory_model/notation.h"
#include "loop/try.h"

namespace imgconv {
namespace {

using memory_model::Exploration;
using memory_model::Program;
using memory_model::Quantifier;
using memory_model::Step;
using memory_model::Witness;

constexpr size_t kTextWidth = 88;
constexpr size_t kColumnGap = 3;

/// "P0", or what it is in the history: "loop".
std::string side_name(const Explanation& explanation, size_t thread) {
  const std::string& name = explanation.program->threads[thread].name;
  if (explanation.history == nullptr) return name;
  return fmt::format("{} ({})", name, explanation.history->sides[thread]);
}

std::string source_text(const history::Source& source) {
  std::string text = fmt::format("{}, {}", source.document, source.year);
  if (!source.commit.empty()) text += fmt::format(", commit {}", source.commit);
  return text;
}

/// Words of `text` in lines of kTextWidth; all but the first have blanks below `label`.
void print_paragraph(std::string_view label, std::string_view text) {
  std::string line(label);
  bool is_line_begun = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (is_line_begun && line.size() + 1 + word.size() > kTextWidth) {
      print_out("{}\n", line);
      line.assign(label.size(), ' ');
      is_line_begun = false;
    }
    if (is_line_begun) line += ' ';
    line += word;
    is_line_begun = true;
  }
  print_out("{}\n", line);
}

/// Cells in columns as wide as their widest cell, two blanks in front.
void print_columns(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    size_t column_begin = 2;
    for (size_t i = 0; i < row.size(); ++i) {
      if (!row[i].empty()) {
        line.resize(column_begin, ' ');
        line += row[i];
      }
      column_begin += widths[i] + kColumnGap;
    }
    print_out("{}\n", line);
  }
}

void print_program(const Explanation& explanation) {
  const Program& program = *explanation.program;
  std::vector<std::vector<std::string>> rows(1);
  for (size_t thread = 0; thread < program.threads.size(); ++thread) {
    rows.front().push_back(side_name(explanation, thread));
    const std::vector<std::string> lines = listing(program, program.threads[thread]);
    rows.resize(std::max(rows.size(), lines.size() + 1));
    for (size_t i = 0; i < lines.size(); ++i) {
      rows[i + 1].resize(program.threads.size());
      rows[i + 1][thread] = lines[i];
    }
  }
  print_columns(rows);
  std::string initial;
  for (const memory_model::Location& location : program.locations) {
    if (!initial.empty()) initial += ", ";
    initial += fmt::format("{} = {}", location.name, location.initial);
  }
  print_out("\nInitially {}.\n", initial);
}

std::string_view question(const Explanation& explanation) {
  if (explanation.history != nullptr) return "Lost wake-up possible, that is";
  return explanation.program->quantifier == Quantifier::kForAll ? "Can it end other than with"
                                                                : "Can it end with";
}

std::string_view yes_or_no(const Exploration& exploration) {
  if (exploration.has_data_race) return "undefined";
  return exploration.is_reachable ? "yes" : "no";
}

std::string execution_count(const Exploration& exploration) {
  const uint64_t reaching = exploration.reaching_executions;
  if (exploration.has_all_executions) {
    return fmt::format("in {} of {} executions", reaching, exploration.allowed_executions);
  }
  return reaching == 0 ? "in none of too many executions to count"
                       : fmt::format("in {} executions or more", reaching);
}

void print_verdicts(const Explanation& explanation) {
  print_out("{} {}?\n", question(explanation), explanation.program->condition_text);
  std::vector<std::vector<std::string>> rows;
  for (const Verdict& verdict : explanation.verdicts) {
    const Exploration& exploration = verdict.exploration;
    std::string count = execution_count(exploration);
    if (exploration.has_data_race) count = "a data race: anything may happen";
    rows.push_back(
        {std::string(name(verdict.model)), std::string(yes_or_no(exploration)), std::move(count)});
  }
  print_columns(rows);
}

std::string what_it_does(const Program& program, const Step& step) {
  const std::string& location = program.locations[*step.location].name;
  switch (step.kind) {
    case Step::Kind::kRead:
      return "load of " + location;
    case Step::Kind::kWrite:
      return "store to " + location;
    default:
      return "update of " + location;
  }
}

/// The first column of a timeline.
std::string label(size_t step) { return fmt::format("({})", step + 1); }

/// "The load of x, (2), takes effect early: the store to y, (6), comes before it in the program."
std::vector<std::string> remarks(const Program& program, const Witness& witness) {
  std::vector<std::string> sentences;
  for (size_t i = 0; i < witness.steps.size(); ++i) {
    const Step& step = witness.steps[i];
    if (step.overtaken.empty()) continue;
    std::string overtaken;
    for (const size_t other : step.overtaken) {
      if (!overtaken.empty()) overtaken += " and ";
      overtaken +=
          fmt::format("the {} {}", what_it_does(program, witness.steps[other]), label(other));
    }
    const bool is_load = step.kind == Step::Kind::kRead;
    sentences.push_back(fmt::format("The {} {} {} early: in the program {} {} before it.",
                                    what_it_does(program, step), label(i),
                                    is_load ? "is satisfied" : "becomes visible", overtaken,
                                    step.overtaken.size() == 1 ? "comes" : "come"));
  }
  if (sentences.empty()) {
    sentences.emplace_back("Nothing is reordered: the threads merely take turns like this.");
  }
  return sentences;
}

std::vector<std::vector<std::string>> timeline_rows(const Explanation& explanation,
                                                    const Witness& witness) {
  const size_t threads = explanation.program->threads.size();
  std::vector<std::vector<std::string>> rows(1);
  rows.front().emplace_back();
  for (size_t thread = 0; thread < threads; ++thread) {
    rows.front().push_back(side_name(explanation, thread));
  }
  for (size_t i = 0; i < witness.steps.size(); ++i) {
    const Step& step = witness.steps[i];
    std::vector<std::string> row(1 + threads);
    row[0] = label(i);
    row[1 + step.thread] = to_text(*explanation.program, step);
    rows.push_back(std::move(row));
  }
  return rows;
}

/// What a yes of C++ means where processors say no; empty if none does.
std::string remark_on_the_standard(const Explanation& explanation) {
  std::string keeping;
  for (const Verdict& verdict : explanation.verdicts) {
    const bool is_processor =
        verdict.model != memory_model::Model::kSc && verdict.model != memory_model::Model::kCpp20;
    if (!is_processor || verdict.exploration.is_reachable) continue;
    keeping += (keeping.empty() ? "" : ", ") + std::string(name(verdict.model));
  }
  if (keeping.empty()) return keeping;
  return fmt::format(
      "The standard permits this. Not so: {}. There the instructions that compilers choose today "
      "keep an order that the source does not ask for, and that another choice of instructions, an "
      "optimisation or another processor may end.",
      keeping);
}

/// One timeline for all models that have the same.
void print_witnesses(const Explanation& explanation) {
  std::vector<bool> is_printed(explanation.verdicts.size());
  for (size_t i = 0; i < explanation.verdicts.size(); ++i) {
    const std::optional<Witness>& witness = explanation.verdicts[i].exploration.witness;
    if (!witness || is_printed[i]) continue;
    const std::vector<std::vector<std::string>> rows = timeline_rows(explanation, *witness);
    std::string models(name(explanation.verdicts[i].model));
    for (size_t other = i + 1; other < explanation.verdicts.size(); ++other) {
      const Verdict& verdict = explanation.verdicts[other];
      if (!verdict.exploration.witness ||
          timeline_rows(explanation, *verdict.exploration.witness) != rows) {
        continue;
      }
      is_printed[other] = true;
      models += fmt::format(", {}", name(verdict.model));
    }
    print_out("\n{}:\n", models);
    print_columns(rows);
    std::vector<std::string> below = remarks(*explanation.program, *witness);
    if (explanation.verdicts[i].model == memory_model::Model::kCpp20) {
      below.push_back(remark_on_the_standard(explanation));
    }
    for (const std::string& remark : below) {
      if (!remark.empty()) print_paragraph("  ", remark);
    }
  }
}

InfoValue text_value(std::string_view text) { return {std::string(text)}; }

InfoValue::Array witness_value(const Explanation& explanation, const Witness& witness) {
  InfoValue::Array steps;
  for (const Step& step : witness.steps) {
    InfoValue::Object object;
    add_member(object, "thread", explanation.program->threads[step.thread].name);
    add_member(object, "text", to_text(*explanation.program, step));
    InfoValue::Array overtaken;
    for (const size_t other : step.overtaken) overtaken.push_back({uint64_t{other}});
    add_member(object, "overtaken", std::move(overtaken));
    steps.push_back({std::move(object)});
  }
  return steps;
}

InfoValue::Object summary_object(const Explanation& explanation) {
  InfoValue::Object object;
  if (const history::Case* const history = explanation.history) {
    add_member(object, "id", std::string(history->id));
    add_member(object, "title", std::string(history->title));
    add_member(object, "source", source_text(history->source));
    add_member(object, "observed", std::string(history->observed));
  } else {
    add_member(object, "id", explanation.program->name);
  }
  InfoValue::Object verdicts;
  for (const Verdict& verdict : explanation.verdicts) {
    const Exploration& exploration = verdict.exploration;
    verdicts.emplace_back(std::string(name(verdict.model)),
                          InfoValue{exploration.is_reachable || exploration.has_data_race});
  }
  add_member(object, "verdicts", std::move(verdicts));
  return object;
}

}  // namespace

Result<Explanation> explain(const history::Case* history, std::string_view litmus,
                            std::span<const memory_model::Model> models, const std::string& name) {
  Explanation explanation;
  explanation.history = history;
  Result<Program> program = memory_model::parse_litmus(litmus);
  if (!program) return std::move(program).error().within(name);
  explanation.program = std::make_unique<Program>(std::move(*program));
  for (const memory_model::Model model : models) {
    Result<Exploration> exploration = memory_model::explore(*explanation.program, model);
    if (!exploration) return std::move(exploration).error().within(name);
    explanation.verdicts.push_back({model, std::move(*exploration)});
  }
  return explanation;
}

void print_in_full(const Explanation& explanation) {
  if (const history::Case* const history = explanation.history) {
    print_paragraph(fmt::format("{}: ", history->id), history->title);
    print_out("\n");
    print_paragraph("", history->summary);
    print_out("\n");
    print_paragraph("Source:   ", source_text(history->source));
    print_paragraph("Observed: ", history->observed);
  } else {
    print_out("{}\n", explanation.program->name);
  }
  print_out("\n");
  print_program(explanation);
  print_verdicts(explanation);
  print_witnesses(explanation);
}

void print_table(std::span<const Explanation> explanations) {
  std::vector<std::vector<std::string>> rows(1);
  rows.front().emplace_back("lost wake-up possible?");
  for (const Explanation& explanation : explanations) {
    if (rows.size() == 1) {
      for (const Verdict& verdict : explanation.verdicts) {
        rows.front().emplace_back(name(verdict.model));
      }
    }
    std::vector<std::string> row{std::string(explanation.history->id)};
    for (const Verdict& verdict : explanation.verdicts) {
      row.emplace_back(yes_or_no(verdict.exploration));
    }
    rows.push_back(std::move(row));
  }
  print_columns(rows);
}

InfoValue summary_value(const Explanation& explanation) { return {summary_object(explanation)}; }

InfoValue full_value(const Explanation& explanation) {
  const Program& program = *explanation.program;
  InfoValue::Object object = summary_object(explanation);
  if (explanation.history != nullptr) {
    add_member(object, "summary", std::string(explanation.history->summary));
  }
  InfoValue::Array programs;
  for (size_t thread = 0; thread < program.threads.size(); ++thread) {
    InfoValue::Array lines;
    for (const std::string& line : listing(program, program.threads[thread])) {
      lines.push_back(text_value(line));
    }
    InfoValue::Object side;
    add_member(side, "thread", program.threads[thread].name);
    if (explanation.history != nullptr) {
      add_member(side, "side", std::string(explanation.history->sides[thread]));
    }
    add_member(side, "program", std::move(lines));
    programs.push_back({std::move(side)});
  }
  add_member(object, "programs", std::move(programs));
  add_member(object, "condition", program.condition_text);
  InfoValue::Object executions;
  InfoValue::Object witnesses;
  for (const Verdict& verdict : explanation.verdicts) {
    InfoValue::Object count;
    if (verdict.exploration.has_all_executions) {
      add_member(count, "allowed", verdict.exploration.allowed_executions);
    }
    add_member(count, "reaching", verdict.exploration.reaching_executions);
    executions.emplace_back(std::string(name(verdict.model)), InfoValue{std::move(count)});
    if (!verdict.exploration.witness) continue;
    witnesses.emplace_back(std::string(name(verdict.model)),
                           InfoValue{witness_value(explanation, *verdict.exploration.witness)});
  }
  add_member(object, "executions", std::move(executions));
  add_member(object, "witnesses", std::move(witnesses));
  return {std::move(object)};
}

}  // namespace imgconv
