#include "cmd/explain_command.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cmd/common_options.h"
#include "cmd/explanation.h"
#include "cmd/help.h"
#include "cmd/json_writer.h"
#include "cmd/output.h"
#include "loop/history/case_file.h"
#include "loop/memory_model/model.h"
#include "loop/try.h"

namespace imgconv {

namespace {

constexpr int kMemoryKey = kFirstCommandKey;
constexpr int kAllKey = kFirstCommandKey + 1;

constexpr OptionDef kOptions[] = {
    {kMemoryKey,
     {"memory"},
     "MODEL",
     "ask this memory model alone: sc, x86-tso, armv8-llsc, armv8-lse, armv8-rcpc or c++20"},
    {kAllKey, {"all"}, nullptr, "the verdicts on all variants, as a table"},
    kOutputOption,
};

struct ExplainArguments {
  std::optional<memory_model::Model> model;
  bool all = false;
  std::string output = "human";
};

Result<void> accept_option(ExplainArguments& explain, int key, const std::string& value) {
  switch (key) {
    case kMemoryKey:
      explain.model = memory_model::find_model(value);
      if (!explain.model) {
        std::string known;
        for (const memory_model::Model model : memory_model::kAllModels) {
          known += fmt::format(" {}", memory_model::name(model));
        }
        return Error(EINVAL, fmt::format("Unknown memory model '{}'; there are{}", value, known));
      }
      break;
    case kAllKey:
      explain.all = true;
      break;
    case kOutputKey:
      explain.output = value;
      break;
  }
  return ok();
}

/// A litmus test is a page; what is longer is cut off here, and refused by the parser.
constexpr size_t kMaxFileBytes = 128 * 1024;

Result<std::string> read_file(const std::string& path) {
  const std::string context = fmt::format("Could not open '{}'", path);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                             std::fclose);
  if (file == nullptr) return Error::from_errno(errno, context);
  std::string text(kMaxFileBytes, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return Error::from_errno(errno != 0 ? errno : EIO, context);
  return text;
}

bool is_file_name(const std::string& operand) {
  constexpr std::string_view kSuffix = ".litmus";
  const bool has_suffix =
      operand.size() > kSuffix.size() &&
      operand.compare(operand.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0;
  return has_suffix || operand.find('/') != std::string::npos;
}

Error unknown_variant(const std::string& operand) {
  std::string known;
  for (const history::Case& history : history::case_file()) {
    known += fmt::format(" {}", history.id);
  }
  return Error(EINVAL, fmt::format("Unknown variant '{}'", operand))
      .with_hint(fmt::format("The variants are{}; a file's name ends in .litmus", known));
}

Result<Explanation> explain_operand(const std::string& operand,
                                    std::span<const memory_model::Model> models) {
  if (const history::Case* const history = history::find_case(operand)) {
    return explain(history, history->litmus, models, operand);
  }
  if (!is_file_name(operand)) return unknown_variant(operand);
  ASSIGN_OR_RETURN(const std::string litmus, read_file(operand));
  return explain(nullptr, litmus, models, operand);
}

Result<void> print_all(std::span<const memory_model::Model> models, OutputFormat format) {
  std::vector<Explanation> explanations;
  for (const history::Case& history : history::case_file()) {
    ASSIGN_OR_RETURN(Explanation explanation,
                     explain(&history, history.litmus, models, std::string(history.id)));
    explanations.push_back(std::move(explanation));
  }
  if (format == OutputFormat::kHuman) {
    print_table(explanations);
    return ok();
  }
  InfoValue::Array array;
  for (const Explanation& explanation : explanations) array.push_back(summary_value(explanation));
  print_out("{}\n", to_json({std::move(array)}));
  return ok();
}

void print_list() {
  print_out("Wake-up protocols, see 'explain VARIANT':\n\n");
  for (const history::Case& history : history::case_file()) {
    print_out("  {:<17} {}\n", history.id, history.title);
  }
  print_out("\nWhat looked like the cause, and was not:\n");
  for (const history::RedHerring& herring : history::red_herrings()) {
    print_out("\n  {}\n      {}\n", herring.what, herring.why_not);
  }
}

Result<int> run_explain(const Report& report, std::span<char*> argv) {
  ExplainArguments options;
  ASSIGN_OR_RETURN(
      const Arguments arguments,
      parse_arguments(report, kOptions, argv, [&options](int key, const std::string& value) {
        return accept_option(options, key, value);
      }));
  if (arguments.wants_help) {
    print_command_help(report, kExplainCommand);
    return 0;
  }
  ASSIGN_OR_RETURN(const OutputFormat format, parse_output_format(options.output));
  std::vector<memory_model::Model> models(memory_model::kAllModels.begin(),
                                          memory_model::kAllModels.end());
  if (options.model) models = {*options.model};
  if (options.all && !arguments.operands.empty()) {
    return report.usage_error("--all and a variant are mutually exclusive");
  }
  if (options.all || (arguments.operands.empty() && format == OutputFormat::kJson)) {
    RETURN_IF_ERROR(print_all(models, format));
    return 0;
  }
  if (arguments.operands.empty()) {
    print_list();
    return 0;
  }
  if (arguments.operands.size() > 1) {
    return report.usage_error("Expecting one variant or one file name");
  }
  ASSIGN_OR_RETURN(const Explanation explanation,
                   explain_operand(arguments.operands.front(), models));
  if (format == OutputFormat::kHuman) {
    print_in_full(explanation);
  } else {
    print_out("{}\n", to_json(full_value(explanation)));
  }
  return 0;
}

}  // namespace

const Command kExplainCommand = {
    "explain",
    "Show how a wake-up protocol can lose a wake-up, and under which memory models",
    "[--memory MODEL] [--output=human|json] [--all | VARIANT | FILE.litmus]",
    kOptions,
    run_explain,
    true,
};

}  // namespace imgconv
