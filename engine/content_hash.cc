#include "engine/content_hash.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/zero_scan.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// With the processor's instructions for it the fastest of the library; nobody is cheated here, so
/// that any good hash would do.
constexpr const char* kAlgorithm = "sha256";

}  // namespace

Result<ContentHash> ContentHash::make() {
  ASSIGN_OR_RETURN(MessageDigest digest, MessageDigest::make(kAlgorithm));
  return ContentHash(std::move(digest));
}

/// Its place comes behind its bytes, so that they need not be kept until its end is known.
void ContentHash::end_stretch() {
  if (stretch_end_ == stretch_begin_) return;
  const std::array<uint64_t, 2> place = {stretch_begin_, stretch_end_};
  digest_.add(std::as_bytes(std::span(place)));
  stretch_begin_ = stretch_end_ = 0;
}

void ContentHash::add(uint64_t guest_offset, std::span<const std::byte> bytes) {
  const size_t sectors = div_round_up(bytes.size(), kSectorSize);
  bitmap_.resize(sector_bitmap_words(sectors));
  scan_sectors(bytes, bitmap_);
  const auto is_data = [this](size_t sector) {
    return (bitmap_[sector / 64] >> (sector % 64) & 1) != 0;
  };
  for (size_t sector = 0; sector < sectors;) {
    const bool data = is_data(sector);
    size_t end = sector + 1;
    while (end < sectors && is_data(end) == data) ++end;
    if (data) {
      const uint64_t begin = guest_offset + sector * kSectorSize;
      if (begin != stretch_end_ || stretch_end_ == stretch_begin_) {
        end_stretch();
        stretch_begin_ = begin;
      }
      const size_t from = sector * kSectorSize;
      digest_.add(bytes.subspan(from, std::min(end * kSectorSize, bytes.size()) - from));
      stretch_end_ = guest_offset + end * kSectorSize;
    }
    sector = end;
  }
}

std::vector<std::byte> ContentHash::finish() {
  end_stretch();
  return digest_.finish();
}

}  // namespace imgconv
