// The parts that the case file is put together from, one a source file. Internal to it.
#pragma once

#include <span>

#include "loop/history/case_file.h"

namespace imgconv::history {

std::span<const Case> cases_of_the_flag();           // V1, V2
std::span<const Case> cases_of_notify_me();          // V3 and its first patches
std::span<const Case> cases_of_the_patches();        // V3, the patches that followed
std::span<const Case> cases_of_the_list();           // V4, V5, V6
std::span<const Case> cases_of_waiters_and_later();  // V7 to V11, current

}  // namespace imgconv::history
