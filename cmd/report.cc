#include "cmd/report.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "loop/messages_before.h"

namespace imgconv {

namespace {

// Results printed before must not appear behind the message when both streams are one file.
void write_line(std::string_view line, bool is_ordered = true) {
  if (is_ordered) std::fflush(stdout);
  // Not fmt::print, which throws when stderr cannot be written.
  const std::string text = fmt::format("{}\n", line);
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), stderr));
}

}  // namespace

Report::Report(const std::string& argv0) : program_name_(argv0) {
  const size_t slash = program_name_.rfind('/');
  if (slash != std::string::npos) program_name_.erase(0, slash + 1);
}

void Report::error(const Error& error) const {
  this->error(error.text());
  if (!error.hint().empty()) write_line(error.hint());
}

void Report::error(const std::string& text) const {
  std::string_view rest = text;
  for (;;) {
    const size_t end = rest.find(kMessageEnd);
    write_line(fmt::format("{}: {}", program_name_, rest.substr(0, end)));
    if (end == std::string_view::npos) return;
    rest.remove_prefix(end + 1);
  }
}

void Report::warning(const std::string& text) const {
  write_line(fmt::format("{}: warning: {}", program_name_, text));
}

void Report::raw_line(const std::string& text) const { write_line(text); }

void Report::unordered_line(const std::string& text) const { write_line(text, false); }

Error Report::usage_error(std::string text) const {
  return Error(EINVAL, std::move(text))
      .with_hint(fmt::format("Try '{} --help' for more information", program_name_));
}

}  // namespace imgconv
