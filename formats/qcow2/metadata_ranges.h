// MetadataRanges: where in the file something stands that a repair must not write over: metadata,
// since a damaged L1 entry may point to anything. A value; built once, then asked. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/qcow2/units.h"

namespace imgconv::qcow2 {

class MetadataRanges {
 public:
  /// `name` as in QEMU's remark; a literal. Empty ranges and such beyond 64 bits are left out.
  void add(HostOffset offset, uint64_t size, std::string_view name);
  /// The same without a name, joined with the range added last if they touch. False when there
  /// are `max_ranges` already.
  bool add_next(HostOffset offset, uint64_t size, size_t max_ranges);
  /// To be called after the last add().
  void sort();
  /// The name of metadata that [offset, offset + size) touches. Requires: size > 0.
  std::optional<std::string_view> find(HostOffset offset, uint64_t size) const;
  /// The same; where the range ends that is touched.
  std::optional<uint64_t> find_end(HostOffset offset, uint64_t size) const;

 private:
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
    std::string_view name;
  };
  const Range* find_range(HostOffset offset, uint64_t size) const;

  /// Ascending and, after sort(), apart from each other.
  std::vector<Range> ranges_;
};

}  // namespace imgconv::qcow2
