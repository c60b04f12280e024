// InfoValue: a small tree of named values, in which a driver reports what only it knows.
//
// cmd/ prints it, as JSON in QEMU's key order and as indented text; a driver inserts keys in any
// order. Strings are bytes, not necessarily UTF-8. A value type; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace imgconv {

struct InfoValue {
  using Member = std::pair<std::string, InfoValue>;
  using Object = std::vector<Member>;
  using Array = std::vector<InfoValue>;

  /// A double is finite.
  std::variant<bool, int64_t, uint64_t, double, std::string, Array, Object> value;
};

}  // namespace imgconv
