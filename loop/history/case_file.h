// The case file: every wake-up protocol of the history of QEMU's event loop that lost wake-ups, was
// proposed against it, or replaced it, with what was observed and its core as a litmus test. The
// protocols as code are the other files of this folder.
//
// Constant data, no verdicts: those are computed (loop/memory_model). Any thread.
#pragma once

#include <array>
#include <span>
#include <string_view>

namespace imgconv::history {

struct Source {
  /// One of the documents that the case file was made from.
  std::string_view document;
  /// "2015", or "2018-2020".
  std::string_view year;
  /// Of QEMU, where one is known, else empty.
  std::string_view commit;
};

struct Case {
  /// As `imgconv explain` and `imgconv reproduce` call it: "V3", "current".
  std::string_view id;
  std::string_view title;
  /// What the two sides do and what is lost, in a few sentences.
  std::string_view summary;
  Source source;
  std::string_view observed;
  /// What P0, P1, ... of the litmus test are; unused places are empty.
  std::array<std::string_view, 3> sides;
  /// exists: the lost wake-up.
  std::string_view litmus;
};

/// What looked like the cause and was not, and is no protocol.
struct RedHerring {
  std::string_view what;
  std::string_view why_not;
};

/// In the order of the history; `current` is the last.
std::span<const Case> case_file();
/// Null if there is none of that name.
const Case* find_case(std::string_view id);

std::span<const RedHerring> red_herrings();

}  // namespace imgconv::history
