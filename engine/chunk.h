// Chunk: what one worker copies at a time. A batch of consecutive status runs, the extents their
// bytes come from, and, once read, the pieces to write.
//
// Filled by ExtentCursor on the loop thread, then handed to a pool job and back; one owner at a
// time. Kept by its worker from chunk to chunk, so that the vectors are allocated once. Offsets and
// lengths are guest bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/extent.h"

namespace imgconv {

/// The part of `extent` inside [guest_begin, guest_end). Requires: they overlap.
inline Extent clip(const Extent& extent, uint64_t guest_begin, uint64_t guest_end) {
  Extent part = extent;
  const uint64_t begin = std::max(extent.guest_offset, guest_begin);
  const uint64_t skipped = begin - extent.guest_offset;
  part.guest_offset = begin;
  part.length = std::min(extent.guest_end(), guest_end) - begin;
  if (extent.kind == ExtentKind::kCompressed) {
    part.offset_in_cluster += skipped;
  } else if (extent.has_host_offset) {
    part.host_offset += skipped;
  }
  return part;
}

struct Run {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  /// Not data: zeros that must be told to the target.
  bool is_data = false;
  /// Data: where in Chunk::extents its extents are.
  uint32_t first_extent = 0;
  uint32_t extent_count = 0;

  uint64_t guest_end() const { return guest_offset + length; }
};

enum class PieceKind : uint8_t { kData, kZero, kCompressed };

/// Something to do to the target. Ascending, not overlapping.
struct Piece {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  PieceKind kind = PieceKind::kData;
  /// kData: in the buffer of guest bytes; kCompressed: in that of packed streams.
  uint64_t buffer_offset = 0;
  /// kCompressed: length of the stream.
  uint64_t packed_length = 0;
};

struct Chunk {
  /// Position in the order of chunks: the ticket for the turnstile.
  uint64_t ticket = 0;
  std::vector<Run> runs;
  ExtentList extents;
  /// Sum of the data runs' lengths: how much of the buffer is used.
  uint64_t data_bytes = 0;
  /// Guest range that this chunk brings the copy forward by, areas without work included.
  uint64_t guest_offset = 0;
  uint64_t advance = 0;

  /// Results of reading.
  std::vector<Piece> pieces;
  /// --salvage: sectors that were replaced by zeros.
  std::vector<uint64_t> lost_sectors;
  /// Bytes handed to the target, packed ones as they are.
  uint64_t bytes_written = 0;
  /// All its data went past the buffers: shared, or copied by the kernel.
  bool is_offloaded = false;

  std::span<const Extent> extents_of(const Run& run) const {
    return std::span(extents).subspan(run.first_extent, run.extent_count);
  }
  void clear() {
    runs.clear();
    extents.clear();
    pieces.clear();
    lost_sectors.clear();
    data_bytes = 0;
    guest_offset = 0;
    advance = 0;
    bytes_written = 0;
    is_offloaded = false;
  }
};

}  // namespace imgconv
