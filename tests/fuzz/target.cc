#include "tests/fuzz/target.h"

#include <algorithm>

namespace imgconv::fuzz {

std::vector<FuzzTarget> all_targets() {
  std::vector<FuzzTarget> targets(parser_targets().begin(), parser_targets().end());
  targets.insert(targets.end(), image_targets().begin(), image_targets().end());
  return targets;
}

const FuzzTarget* find_target(std::string_view name) {
  static const std::vector<FuzzTarget> kTargets = all_targets();
  const auto found = std::find_if(kTargets.begin(), kTargets.end(),
                                  [&](const FuzzTarget& target) { return target.name == name; });
  return found == kTargets.end() ? nullptr : &*found;
}

}  // namespace imgconv::fuzz
