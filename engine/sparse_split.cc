#include "engine/sparse_split.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <utility>

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

}  // namespace

SparseSplitter::SparseSplitter(uint64_t guest_sector, uint32_t sectors, const SparseRule& rule)
    : guest_sector_(guest_sector), sectors_(sectors), rule_(rule) {
  assert(sectors > 0 && rule.min_sectors > 0 && is_power_of_two(rule.alignment_sectors));
}

/// Rules 1 and 2: the stretch at at_, moved to an alignment boundary. One that is cut off by the
/// end of what is known ends on a boundary, and what follows cannot change the part that is known.
SparseSplitter::Stretch SparseSplitter::leading_stretch(std::span<const uint64_t> bitmap,
                                                        uint32_t known) const {
  const uint32_t available = known - at_;
  Stretch stretch{end_of_stretch(bitmap, at_, known) - at_, is_set(bitmap, at_)};
  if (stretch.sectors == available) return stretch;
  const uint64_t stretch_end = guest_sector_ + at_ + stretch.sectors;
  const uint32_t tail = static_cast<uint32_t>(stretch_end % rule_.alignment_sectors);
  if (tail == 0) return stretch;
  if (!stretch.is_data && stretch.sectors <= tail) stretch.is_data = true;
  if (stretch.is_data) {
    const uint64_t extended = stretch.sectors + rule_.alignment_sectors - tail;
    stretch.sectors = static_cast<uint32_t>(std::min<uint64_t>(extended, available));
  } else {
    stretch.sectors -= tail;
  }
  return stretch;
}

void SparseSplitter::advance(std::span<const uint64_t> bitmap, uint32_t known,
                             std::vector<SparsePiece>& pieces) {
  const size_t first_piece = pieces.size();
  const auto decide_up_to = [&](uint32_t end, bool is_data) {
    const uint32_t begin = std::exchange(decided_, end);
    if (pieces.size() > first_piece && pieces.back().is_data == is_data) {
      pieces.back().sectors += end - begin;
    } else {
      pieces.push_back({begin, end - begin, is_data});
    }
  };
  while (at_ < known) {
    const Stretch stretch = leading_stretch(bitmap, known);
    const uint32_t end = at_ + stretch.sectors;
    if (stretch.is_data || !is_in_data_) {
      is_in_data_ = stretch.is_data;
      decide_up_to(end, stretch.is_data);
    } else if (stretch.sectors >= rule_.min_sectors) {
      // Rule 3: long enough for a hole.
      is_in_data_ = false;
      decide_up_to(end, false);
    } else if (end == known && known < sectors_) {
      // It may become long enough.
      return;
    }
    at_ = end;
  }
  // Zeros at the end of a run are a hole, however short.
  if (known == sectors_ && decided_ < sectors_) decide_up_to(sectors_, false);
}

void sparse_split(std::span<const uint64_t> bitmap, uint64_t guest_sector, uint32_t sectors,
                  const SparseRule& rule, std::vector<SparsePiece>& pieces) {
  SparseSplitter(guest_sector, sectors, rule).advance(bitmap, sectors, pieces);
}

}  // namespace imgconv
