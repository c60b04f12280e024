// CompareJob: the part of a comparison that runs on a pool thread. Reads the pieces of a batch from
// both images and finds the first sector that differs.
//
// Uses blocking calls and touches nothing but the batch and its own buffers. Each worker has one,
// used by one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/compare.h"
#include "formats/extent.h"
#include "loop/io_buffer.h"
#include "loop/result.h"

namespace imgconv {

/// A guest range that must be looked at. A side that is not read is known to be zeros.
struct ComparePiece {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  /// What a read error names: the beginning of the range that qemu-img would have read.
  uint64_t chunk_offset = 0;
  std::array<bool, 2> is_read{};
};

/// Pieces in ascending order, and for each side one extent per piece that is read from it.
struct CompareBatch {
  std::vector<ComparePiece> pieces;
  std::array<ExtentList, 2> extents;
  /// The guest range that is settled when the batch is.
  uint64_t settled_bytes = 0;

  void clear();
};

/// Why the images are not the same. The one with the lowest position counts.
struct CompareFinding {
  uint64_t position = 0;
  CompareOutcome outcome;
};

class CompareJob {
 public:
  std::optional<CompareFinding> run(const CompareBatch& batch);

 private:
  /// Pieces [first, end) and where their extents begin on each side.
  struct Group {
    size_t first = 0;
    size_t end = 0;
    std::array<size_t, 2> first_extent{};
    std::array<size_t, 2> end_extent{};
    std::array<uint64_t, 2> bytes{};
  };

  static Group next_group(const CompareBatch& batch, const Group& last, uint64_t max_bytes);
  Result<void> read_side(const CompareBatch& batch, const Group& group, size_t side);
  std::optional<CompareFinding> compare_group(const CompareBatch& batch, const Group& group) const;
  std::optional<CompareFinding> compare_singly(const CompareBatch& batch, const Group& failed);

  std::array<IoBuffer, 2> buffers_;
};

}  // namespace imgconv
