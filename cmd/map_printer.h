// MapPrinter: the lines of `map`, human or JSON (CLI.md section 5). Merges neighbours in equal
// state, since extents are cut where the format's tables are, which is of no interest here. Writes
// to stdout. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cmd/common_options.h"
#include "engine/image_chain.h"
#include "loop/result.h"

namespace imgconv {

/// A line of the map.
struct MapEntry {
  uint64_t start = 0;
  uint64_t length = 0;
  unsigned depth = 0;
  bool is_present = false;
  bool is_zero = false;
  bool is_data = false;
  bool is_compressed = false;
  std::optional<uint64_t> host_offset;
  /// Null without host offset.
  File* file = nullptr;
};

MapEntry to_map_entry(const ChainExtent& chain_extent);

/// Does `next` continue `entry` with the same state?
bool can_merge(const MapEntry& entry, const MapEntry& next);

class MapPrinter {
 public:
  /// Prints what comes before the first entry. `start_offset`: where the map begins. `chain`, of
  /// which the entries are, must outlive this.
  MapPrinter(OutputFormat format, uint64_t start_offset, const ImageChain& chain);

  /// Entries in ascending order. "File contains external, encrypted or compressed clusters."
  Result<void> add(const MapEntry& entry);
  /// Prints the last entry; there is always one, if empty.
  Result<void> finish();

 private:
  Result<void> print_current(bool is_last);
  /// What holds the entry's data: the file, or the topmost of the nodes that show a part of it,
  /// where its host offset counts from.
  const std::string& file_name(const MapEntry& entry) const;

  OutputFormat format_;
  const ImageChain& chain_;
  MapEntry current_;
};

}  // namespace imgconv
