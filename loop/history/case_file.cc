#include "loop/history/case_file.h"

#include <vector>

#include "loop/history/case_file_parts.h"

namespace imgconv::history {
namespace {

constexpr RedHerring kRedHerrings[] = {
    {"EV_BUSY is -1 and shows as 4294967295 in an unsigned",
     "QemuEvent compares it with itself; the value is the same bits on both sides."},
    {"a program counter that stays at STLXR",
     "Stopped in an exclusive pair by a debugger, a thread loses its reservation and goes round "
     "once "
     "more, every time."},
    {"FUTEX_WAKE returning 0",
     "Nobody was asleep on the word yet, and nobody can fall asleep on it any more: its value was "
     "changed first."},
    {"NUMA placement, the number of cores",
     "They widen the window. It hung as well with everything confined to one node."},
    {"notify_me and list_lock in one cache line, notify_me of 64 bits or aligned to 16 bytes",
     "Timing, see V3f_padding."},
    {"a SIGIO to oneself", "A signal is another wake-up and hides the one that was lost."},
};

std::vector<Case> put_together() {
  std::vector<Case> cases;
  for (const std::span<const Case> part :
       {cases_of_the_flag(), cases_of_notify_me(), cases_of_the_patches(), cases_of_the_list(),
        cases_of_waiters_and_later()}) {
    cases.insert(cases.end(), part.begin(), part.end());
  }
  return cases;
}

}  // namespace

std::span<const Case> case_file() {
  static const std::vector<Case> kCases = put_together();
  return kCases;
}

const Case* find_case(std::string_view id) {
  for (const Case& candidate : case_file()) {
    if (candidate.id == id) return &candidate;
  }
  return nullptr;
}

std::span<const RedHerring> red_herrings() { return kRedHerrings; }

}  // namespace imgconv::history
