#include "engine/compare_job.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "engine/zero_scan.h"
#include "formats/extent_io.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Both sides of a group stay in the core's cache between read and compare (tests/bench/README.md).
constexpr uint64_t kGroupBytes = 128 * kKiB;

bool is_same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

/// Offset of the first sector that differs; an empty side stands for zeros.
std::optional<uint64_t> first_difference(std::span<const std::byte> a,
                                         std::span<const std::byte> b) {
  const bool against_zero = a.empty() || b.empty();
  const std::span<const std::byte> content = a.empty() ? b : a;
  if (against_zero ? is_all_zero(content) : is_same(a, b)) return std::nullopt;
  for (uint64_t offset = 0; offset < content.size(); offset += kSectorSize) {
    const uint64_t length = std::min<uint64_t>(kSectorSize, content.size() - offset);
    const bool differs = against_zero
                             ? !is_all_zero(content.subspan(offset, length))
                             : !is_same(a.subspan(offset, length), b.subspan(offset, length));
    if (differs) return offset;
  }
  return std::nullopt;
}

CompareFinding read_failure(const ComparePiece& piece, size_t side, const Error& error) {
  CompareFinding finding;
  finding.position = piece.guest_offset;
  finding.outcome.verdict = CompareVerdict::kReadFailed;
  finding.outcome.offset = piece.chunk_offset;
  finding.outcome.image = static_cast<unsigned>(side);
  finding.outcome.reason = errno_text(error.code());
  return finding;
}

}  // namespace

void CompareBatch::clear() {
  pieces.clear();
  for (ExtentList& side : extents) side.clear();
  settled_bytes = 0;
}

std::optional<CompareFinding> CompareJob::run(const CompareBatch& batch) {
  Group group;
  while (group.end < batch.pieces.size()) {
    group = next_group(batch, group, kGroupBytes);
    Result<void> is_read = read_side(batch, group, 0);
    if (is_read) is_read = read_side(batch, group, 1);
    std::optional<CompareFinding> finding =
        is_read ? compare_group(batch, group) : compare_singly(batch, group);
    if (finding) return finding;
  }
  return std::nullopt;
}

/// The pieces behind `last`, at least one, of up to `max_bytes`.
CompareJob::Group CompareJob::next_group(const CompareBatch& batch, const Group& last,
                                         uint64_t max_bytes) {
  Group group;
  group.first = group.end = last.end;
  group.first_extent = group.end_extent = last.end_extent;
  uint64_t bytes = 0;
  for (; group.end < batch.pieces.size(); ++group.end) {
    const ComparePiece& piece = batch.pieces[group.end];
    if (group.end > group.first && bytes + piece.length > max_bytes) break;
    bytes += piece.length;
    for (size_t side = 0; side < 2; ++side) {
      if (!piece.is_read[side]) continue;
      ++group.end_extent[side];
      group.bytes[side] += piece.length;
    }
  }
  return group;
}

Result<void> CompareJob::read_side(const CompareBatch& batch, const Group& group, size_t side) {
  if (group.bytes[side] == 0) return ok();
  IoBuffer& buffer = buffers_[side];
  if (buffer.size() < group.bytes[side]) {
    buffer = IoBuffer(std::max(group.bytes[side], kGroupBytes));
  }
  const size_t first = group.first_extent[side];
  const std::span<const Extent> extents(batch.extents[side]);
  return read_extents(extents.subspan(first, group.end_extent[side] - first),
                      buffer.span().first(group.bytes[side]), FileEnd::kZeros);
}

std::optional<CompareFinding> CompareJob::compare_group(const CompareBatch& batch,
                                                        const Group& group) const {
  std::array<uint64_t, 2> used{};
  for (size_t i = group.first; i < group.end; ++i) {
    const ComparePiece& piece = batch.pieces[i];
    std::array<std::span<const std::byte>, 2> bytes;
    for (size_t side = 0; side < 2; ++side) {
      if (!piece.is_read[side]) continue;
      bytes[side] = buffers_[side].span().subspan(used[side], piece.length);
      used[side] += piece.length;
    }
    const std::optional<uint64_t> difference = first_difference(bytes[0], bytes[1]);
    if (!difference) continue;
    CompareFinding finding;
    finding.position = piece.guest_offset;
    finding.outcome.verdict = CompareVerdict::kContentMismatch;
    finding.outcome.offset = piece.guest_offset + *difference;
    return finding;
  }
  return std::nullopt;
}

/// Something in the group cannot be read: piece by piece, to find out what, and whether the images
/// differ before it.
std::optional<CompareFinding> CompareJob::compare_singly(const CompareBatch& batch,
                                                         const Group& failed) {
  Group group;
  group.end = failed.first;
  group.end_extent = failed.first_extent;
  while (group.end < failed.end) {
    group = next_group(batch, group, 0);
    for (size_t side = 0; side < 2; ++side) {
      const Result<void> is_read = read_side(batch, group, side);
      if (!is_read) return read_failure(batch.pieces[group.first], side, is_read.error());
    }
    std::optional<CompareFinding> finding = compare_group(batch, group);
    if (finding) return finding;
  }
  return std::nullopt;
}

}  // namespace imgconv
