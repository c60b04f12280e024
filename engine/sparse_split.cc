#include "engine/sparse_split.h"

#include <algorithm>
#include <bit>
#include <cassert>

#include "loop/units.h"

namespace imgconv {
namespace {

bool is_set(std::span<const uint64_t> bitmap, uint32_t at) {
  return ((bitmap[at / 64] >> (at % 64)) & 1) != 0;
}

/// First sector in [from, end) whose bit differs from that of `from`; `end` if there is none.
uint32_t end_of_stretch(std::span<const uint64_t> bitmap, uint32_t from, uint32_t end) {
  const uint64_t flip = is_set(bitmap, from) ? ~uint64_t{0} : 0;
  uint32_t at = from;
  while (at < end) {
    const uint64_t differing = (bitmap[at / 64] ^ flip) >> (at % 64);
    if (differing != 0) {
      return std::min(end, at + static_cast<uint32_t>(std::countr_zero(differing)));
    }
    at = at / 64 * 64 + 64;
  }
  return end;
}

struct Stretch {
  uint32_t sectors;
  bool is_data;
};

/// Rules 1 and 2: the leading stretch of [from, end), moved to an alignment boundary.
Stretch leading_stretch(std::span<const uint64_t> bitmap, uint64_t guest_sector, uint32_t from,
                        uint32_t end, uint64_t alignment_sectors) {
  const uint32_t available = end - from;
  Stretch stretch{end_of_stretch(bitmap, from, end) - from, is_set(bitmap, from)};
  if (stretch.sectors == available) return stretch;
  const uint64_t stretch_end = guest_sector + from + stretch.sectors;
  const uint32_t tail = static_cast<uint32_t>(stretch_end % alignment_sectors);
  if (tail == 0) return stretch;
  if (!stretch.is_data && stretch.sectors <= tail) stretch.is_data = true;
  if (stretch.is_data) {
    const uint64_t extended = stretch.sectors + alignment_sectors - tail;
    stretch.sectors = static_cast<uint32_t>(std::min<uint64_t>(extended, available));
  } else {
    stretch.sectors -= tail;
  }
  return stretch;
}

/// Rule 3: the leading piece of [from, end). Short zero stretches belong to the data around them.
Stretch leading_piece(std::span<const uint64_t> bitmap, uint64_t guest_sector, uint32_t from,
                      uint32_t end, const SparseRule& rule) {
  Stretch piece = leading_stretch(bitmap, guest_sector, from, end, rule.alignment_sectors);
  if (!piece.is_data) return piece;
  const uint64_t min_sectors = std::min<uint64_t>(rule.min_sectors, end - from);
  uint32_t at = from + piece.sectors;
  while (at < end) {
    const Stretch next = leading_stretch(bitmap, guest_sector, at, end, rule.alignment_sectors);
    at += next.sectors;
    if (next.is_data) {
      piece.sectors = at - from;
    } else if (next.sectors >= min_sectors) {
      break;
    }
  }
  return piece;
}

}  // namespace

void sparse_split(std::span<const uint64_t> bitmap, uint64_t guest_sector, uint32_t sectors,
                  const SparseRule& rule, std::vector<SparsePiece>& pieces) {
  assert(sectors > 0 && rule.min_sectors > 0 && is_power_of_two(rule.alignment_sectors));
  for (uint32_t at = 0; at < sectors;) {
    const Stretch piece = leading_piece(bitmap, guest_sector, at, sectors, rule);
    pieces.push_back({at, piece.sectors, piece.is_data});
    at += piece.sectors;
  }
}

}  // namespace imgconv
