#include "engine/chunk_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "engine/copy_range.h"
#include "engine/zero_scan.h"
#include "formats/codec.h"
#include "formats/extent_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

// Small runs are read together up to this, so that what was read is still in the second-level cache
// when it is scanned and written (PERFORMANCE.md, "Buffers of 128 to 512 KiB").
constexpr uint64_t kGroupBytes = 512 * kKiB;
// And longer runs are read in blocks of this by the fused step: what is looked at for zeros is then
// still in the second-level cache (tests/bench/README.md).
constexpr uint64_t kBlockBytes = 256 * kKiB;

}  // namespace

Error read_error(uint64_t guest_offset, const Error& cause) {
  return Error(cause.code(), fmt::format("error while reading at byte {}: {}", guest_offset,
                                         errno_text(cause.code())))
      .with_hint(cause.hint());
}

Error write_error(uint64_t guest_offset, const Error& cause) {
  return Error(cause.code(), fmt::format("error while writing at byte {}: {}", guest_offset,
                                         errno_text(cause.code())));
}

std::span<std::byte> ChunkReader::make_buffer(uint64_t size) {
  if (buffer_.size() < size) buffer_ = IoBuffer(size);
  return buffer_.span();
}

void ChunkReader::release_buffers() {
  buffer_ = IoBuffer();
  packed_ = IoBuffer();
}

std::span<const std::byte> ChunkReader::bytes_of(const Piece& piece) const {
  if (piece.kind == PieceKind::kCompressed) {
    return packed_.span().subspan(piece.buffer_offset, piece.packed_length);
  }
  return buffer_.span().subspan(piece.buffer_offset, piece.length);
}

ChunkReader::Group ChunkReader::next_group(const Chunk& chunk, size_t first,
                                           std::optional<uint64_t> host_base) const {
  Group group{first, first + 1, chunk.runs[first].is_data ? chunk.runs[first].length : 0};
  if (!chunk.runs[first].is_data) return group;
  while (group.end < chunk.runs.size()) {
    const Run& run = chunk.runs[group.end];
    const bool fits = run.is_data && group.bytes + run.length <= kGroupBytes;
    if (!fits || run.guest_offset != chunk.runs[group.end - 1].guest_end()) break;
    // It is tried first, and need not be read then.
    if (host_base && can_be_cloned(chunk.extents_of(run), *host_base)) break;
    group.bytes += run.length;
    ++group.end;
  }
  return group;
}

Result<void> ChunkReader::read_group(Chunk& chunk, const Group& group,
                                     std::span<std::byte> buffer) const {
  const Run& first = chunk.runs[group.first];
  const Run& last = chunk.runs[group.end - 1];
  const size_t count = last.first_extent + last.extent_count - first.first_extent;
  const Result<void> outcome = read_extents(
      std::span(chunk.extents).subspan(first.first_extent, count), buffer, FileEnd::kError);
  if (outcome) return ok();
  if (group.end - group.first == 1 && !plan_.salvage) {
    return read_error(first.guest_offset, outcome.error());
  }
  if (!plan_.salvage) {
    // Again run by run, only to learn which of them it is. If none fails now, the error counts
    // all the same: the device cannot be trusted.
    RETURN_IF_ERROR(read_singly(chunk, group, buffer));
    return read_error(first.guest_offset, outcome.error());
  }
  return read_singly(chunk, group, buffer);
}

Result<void> ChunkReader::read_singly(Chunk& chunk, const Group& group,
                                      std::span<std::byte> buffer) const {
  for (size_t i = group.first; i < group.end; ++i) {
    const Run& run = chunk.runs[i];
    const std::span<std::byte> part = buffer.first(run.length);
    buffer = buffer.subspan(run.length);
    const Result<void> outcome = read_extents(chunk.extents_of(run), part, FileEnd::kError);
    if (outcome) continue;
    if (!plan_.salvage) return read_error(run.guest_offset, outcome.error());
    rescue(chunk, run, part);
  }
  return ok();
}

/// --salvage: sector by sector; what stays unreadable becomes zeros and is reported.
void ChunkReader::rescue(Chunk& chunk, const Run& run, std::span<std::byte> buffer) const {
  const std::span<const Extent> extents = chunk.extents_of(run);
  for (uint64_t at = 0; at < run.length; at += kSectorSize) {
    const std::span<std::byte> sector = buffer.subspan(at, std::min(kSectorSize, run.length - at));
    const uint64_t guest_offset = run.guest_offset + at;
    bool is_read = true;
    // A sector has several extents only where an image's size is no multiple of 512.
    for (const Extent& extent : extents) {
      const uint64_t begin = std::max(guest_offset, extent.guest_offset);
      const uint64_t end = std::min(guest_offset + sector.size(), extent.guest_end());
      if (begin >= end) continue;
      const Extent part = clip(extent, begin, end);
      const auto target = sector.subspan(begin - guest_offset, end - begin);
      is_read &= read_extents(std::span(&part, 1), target, FileEnd::kError).has_value();
    }
    if (is_read) continue;
    std::memset(sector.data(), 0, sector.size());
    chunk.lost_sectors.push_back(guest_offset);
  }
}

void ChunkReader::add_zero(Chunk& chunk, uint64_t guest_offset, uint64_t length) const {
  if (plan_.zero_action == ZeroAction::kSkip) return;
  chunk.pieces.push_back({guest_offset, length, PieceKind::kZero, 0, 0});
}

void ChunkReader::add_data(Chunk& chunk, uint64_t guest_offset, uint64_t length,
                           uint64_t buffer_offset) const {
  if (!chunk.pieces.empty()) {
    Piece& last = chunk.pieces.back();
    if (last.kind == PieceKind::kData && last.guest_offset + last.length == guest_offset &&
        last.buffer_offset + last.length == buffer_offset) {
      last.length += length;
      return;
    }
  }
  chunk.pieces.push_back({guest_offset, length, PieceKind::kData, buffer_offset, 0});
}

/// The pieces in split_, of a run at `run_begin`. What they begin with lies at `buffer_begin`.
void ChunkReader::add_split(Chunk& chunk, uint64_t run_begin, uint64_t buffer_begin) {
  for (const SparsePiece& piece : split_) {
    const uint64_t guest_offset = run_begin + piece.first_sector * kSectorSize;
    const uint64_t length = piece.sectors * kSectorSize;
    if (piece.is_data) {
      add_data(chunk, guest_offset, length, buffer_begin);
    } else {
      add_zero(chunk, guest_offset, length);
    }
    buffer_begin += length;
  }
}

void ChunkReader::split_run(Chunk& chunk, const Run& run, uint64_t buffer_offset) {
  if (plan_.sparse) {
    bitmap_.resize(sector_bitmap_words(div_round_up(run.length, kSectorSize)));
    scan_sectors(buffer_.span().subspan(buffer_offset, run.length), bitmap_);
  }
  split_scanned(chunk, run, buffer_offset);
}

void ChunkReader::split_scanned(Chunk& chunk, const Run& run, uint64_t buffer_offset) {
  if (!plan_.sparse) return add_data(chunk, run.guest_offset, run.length, buffer_offset);
  const size_t sectors = div_round_up(run.length, kSectorSize);
  split_.clear();
  sparse_split(bitmap_, run.guest_offset / kSectorSize, static_cast<uint32_t>(sectors),
               *plan_.sparse, split_);
  add_split(chunk, run.guest_offset, buffer_offset);
}

bool ChunkReader::can_stream(const Chunk& chunk, const Run& run) const {
  if (run.length <= kGroupBytes || plan_.salvage) return false;
  const std::span<const Extent> extents = chunk.extents_of(run);
  return std::all_of(extents.begin(), extents.end(),
                     [](const Extent& extent) { return extent.kind == ExtentKind::kData; });
}

/// Fills block_extents_ with what lies in [begin, end), which is behind the last block.
void ChunkReader::take_block_extents(const Chunk& chunk, const Run& run, uint64_t begin,
                                     uint64_t end) {
  const std::span<const Extent> extents = chunk.extents_of(run);
  const auto first =
      std::partition_point(extents.begin(), extents.end(),
                           [begin](const Extent& extent) { return extent.guest_end() <= begin; });
  block_extents_.clear();
  for (auto it = first; it != extents.end() && it->guest_offset < end; ++it) {
    block_extents_.push_back(clip(*it, begin, end));
  }
}

/// Reads and looks for zeros block by block, so that a block is still in the core's cache when it
/// is looked at. Written is the run as a whole, in one turn (E5).
Result<void> ChunkReader::stream_run(Chunk& chunk, const Run& run, BlockingFile& target,
                                     uint64_t host_base) {
  bitmap_.resize(sector_bitmap_words(div_round_up(run.length, kSectorSize)));
  // Of one size for all runs, as a thread keeps its last buffers.
  const std::span<std::byte> buffer = make_buffer().first(run.length);
  for (uint64_t begin = 0; begin < run.length; begin += kBlockBytes) {
    const uint64_t end = std::min(begin + kBlockBytes, run.length);
    const std::span<std::byte> block = buffer.subspan(begin, end - begin);
    take_block_extents(chunk, run, run.guest_offset + begin, run.guest_offset + end);
    const Result<void> is_read = read_extents(block_extents_, block, FileEnd::kError);
    if (!is_read) return read_error(run.guest_offset, is_read.error());
    if (plan_.sparse) scan_sectors(block, std::span(bitmap_).subspan(begin / kSectorSize / 64));
  }
  split_scanned(chunk, run, 0);
  const Result<void> is_written = write_pieces(chunk, target, host_base);
  if (!is_written) return write_error(run.guest_offset, is_written.error());
  return ok();
}

void ChunkReader::compress_run(Chunk& chunk, const Run& run, uint64_t buffer_offset) {
  const std::span<std::byte> used = buffer_.span().subspan(buffer_offset, run.length);
  if (plan_.sparse && is_all_zero(used)) return add_zero(chunk, run.guest_offset, run.length);
  const uint64_t cluster_size = plan_.compression->cluster_size;
  if (run.length < cluster_size && run.guest_end() < plan_.target_size) {
    // The target goes on in this cluster, and a stream would replace what it holds there.
    chunk.pieces.push_back({run.guest_offset, run.length, PieceKind::kData, buffer_offset, 0});
    return;
  }
  // The last cluster of a disk is compressed whole, with zeros behind the end (QCOW2.md 4.2).
  const std::span<std::byte> cluster = buffer_.span().subspan(buffer_offset, cluster_size);
  std::fill(cluster.begin() + static_cast<std::ptrdiff_t>(run.length), cluster.end(), std::byte{0});
  const std::span<std::byte> room = packed_.span().subspan(packed_used_, cluster_size - 1);
  const std::optional<size_t> length =
      thread_compressor(plan_.compression->codec).compress(cluster, room);
  if (!length) {
    chunk.pieces.push_back({run.guest_offset, run.length, PieceKind::kData, buffer_offset, 0});
    return;
  }
  chunk.pieces.push_back(
      {run.guest_offset, run.length, PieceKind::kCompressed, packed_used_, *length});
  packed_used_ += *length;
}

void ChunkReader::split(Chunk& chunk) {
  uint64_t buffer_offset = 0;
  packed_used_ = 0;
  if (plan_.compression && packed_.size() == 0) packed_ = IoBuffer(plan_.chunk_capacity);
  for (const Run& run : chunk.runs) {
    if (!run.is_data) {
      add_zero(chunk, run.guest_offset, run.length);
      continue;
    }
    if (plan_.compression) {
      compress_run(chunk, run, buffer_offset);
    } else {
      split_run(chunk, run, buffer_offset);
    }
    buffer_offset += run.length;
  }
}

Result<void> ChunkReader::read(Chunk& chunk) {
  const std::span<std::byte> buffer = make_buffer();
  uint64_t used = 0;
  for (size_t first = 0; first < chunk.runs.size();) {
    const Group group = next_group(chunk, first, std::nullopt);
    if (group.bytes > 0) {
      RETURN_IF_ERROR(read_group(chunk, group, buffer.subspan(used, group.bytes)));
    }
    used += group.bytes;
    first = group.end;
  }
  split(chunk);
  return ok();
}

/// Writes the pieces and forgets them: what is read next may lie in the same place of the buffer.
Result<void> ChunkReader::write_pieces(Chunk& chunk, BlockingFile& target, uint64_t host_base) {
  for (size_t at = 0; at < chunk.pieces.size();) {
    const Piece& first = chunk.pieces[at];
    const uint64_t host_offset = host_base + first.guest_offset;
    if (first.kind == PieceKind::kZero) {
      const Result<void> outcome = target.write_zeroes(
          host_offset, first.length, {.may_unmap = plan_.zeroes_may_unmap, .no_fallback = false});
      if (!outcome) return write_error(first.guest_offset, outcome.error());
      ++at;
      continue;
    }
    writes_.clear();
    for (; at < chunk.pieces.size() && chunk.pieces[at].kind != PieceKind::kZero; ++at) {
      const Piece& piece = chunk.pieces[at];
      writes_.push_back({host_base + piece.guest_offset, bytes_of(piece)});
      chunk.bytes_written += piece.length;
    }
    const Result<void> outcome = target.write_all(writes_);
    if (!outcome) return write_error(first.guest_offset, outcome.error());
  }
  chunk.pieces.clear();
  return ok();
}

bool ChunkReader::offload(Chunk& chunk, const Run& run, BlockingFile& target, uint64_t host_base) {
  const std::span<const Extent> extents = chunk.extents_of(run);
  if (clone(chunk, run, target, host_base)) return true;
  if (!plan_.copy_range || !can_copy_range_) return false;
  can_copy_range_ = copy_extents(extents, target, host_base);
  if (can_copy_range_) chunk.bytes_written += run.length;
  return can_copy_range_;
}

bool ChunkReader::clone(Chunk& chunk, const Run& run, BlockingFile& target, uint64_t host_base) {
  if (!may_clone()) return false;
  const CloneOutcome outcome = clone_extents(chunk.extents_of(run), target, host_base);
  can_clone_ = outcome != CloneOutcome::kNever;
  if (outcome != CloneOutcome::kCloned) return false;
  chunk.bytes_written += run.length;
  return true;
}

void ChunkReader::clone_runs(Chunk& chunk, BlockingFile& target, uint64_t host_base) {
  std::vector<Run> cloned;
  for (const Run& run : chunk.runs) {
    if (run.is_data && clone(chunk, run, target, host_base)) cloned.push_back(run);
  }
  std::vector<Piece> left;
  size_t next_run = 0;
  for (Piece piece : chunk.pieces) {
    // Pieces join what lies side by side, so that one may go on behind a run.
    while (next_run < cloned.size() && piece.length > 0) {
      const Run& run = cloned[next_run];
      const uint64_t end = piece.guest_offset + piece.length;
      if (run.guest_offset >= end) break;
      if (run.guest_offset > piece.guest_offset) {
        Piece before = piece;
        before.length = run.guest_offset - piece.guest_offset;
        left.push_back(before);
      }
      const uint64_t begin = std::clamp(run.guest_end(), piece.guest_offset, end);
      piece.buffer_offset += begin - piece.guest_offset;
      piece.length = end - begin;
      piece.guest_offset = begin;
      if (run.guest_end() <= begin) ++next_run;
    }
    if (piece.length > 0) left.push_back(piece);
  }
  chunk.pieces = std::move(left);
}

Result<void> ChunkReader::read_and_split(Chunk& chunk, const Group& group) {
  const std::span<std::byte> buffer = make_buffer(std::max(group.bytes, kGroupBytes));
  RETURN_IF_ERROR(read_group(chunk, group, buffer.first(group.bytes)));
  uint64_t buffer_offset = 0;
  for (size_t i = group.first; i < group.end; ++i) {
    split_run(chunk, chunk.runs[i], buffer_offset);
    buffer_offset += chunk.runs[i].length;
  }
  return ok();
}

/// A run that is longer than a buffer, because it was to be shared, becomes runs of plan.max_run.
void ChunkReader::cut_long_run(Chunk& chunk, size_t index) {
  const Run whole = chunk.runs[index];
  std::vector<Run> parts;
  for (uint64_t begin = whole.guest_offset; begin < whole.guest_end(); begin += plan_.max_run) {
    const uint64_t end = std::min(begin + plan_.max_run, whole.guest_end());
    take_block_extents(chunk, whole, begin, end);
    parts.push_back({begin, end - begin, true, static_cast<uint32_t>(chunk.extents.size()),
                     static_cast<uint32_t>(block_extents_.size())});
    chunk.extents.insert(chunk.extents.end(), block_extents_.begin(), block_extents_.end());
  }
  const auto place = chunk.runs.begin() + static_cast<std::ptrdiff_t>(index);
  chunk.runs.insert(chunk.runs.erase(place), parts.begin(), parts.end());
}

Result<void> ChunkReader::copy(Chunk& chunk, BlockingFile& target, uint64_t host_base) {
  chunk.is_offloaded = chunk.data_bytes > 0;
  for (size_t first = 0; first < chunk.runs.size();) {
    const Group group =
        next_group(chunk, first, may_clone() ? std::optional(host_base) : std::nullopt);
    const Run& run = chunk.runs[first];
    if (run.is_data && offload(chunk, run, target, host_base)) {
      // The others of the group get their own chance.
      ++first;
      continue;
    }
    if (run.is_data && run.length > plan_.max_run) {
      cut_long_run(chunk, first);
      continue;
    }
    chunk.is_offloaded = chunk.is_offloaded && !run.is_data;
    first = group.end;
    if (run.is_data && can_stream(chunk, run)) {
      RETURN_IF_ERROR(stream_run(chunk, run, target, host_base));
      continue;
    }
    if (!run.is_data) {
      add_zero(chunk, run.guest_offset, run.length);
    } else {
      RETURN_IF_ERROR(read_and_split(chunk, group));
    }
    RETURN_IF_ERROR(write_pieces(chunk, target, host_base));
  }
  return ok();
}

}  // namespace imgconv
