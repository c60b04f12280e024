#include "engine/zero_scan.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "loop/units.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace imgconv {
namespace {

bool has_data_scalar(const std::byte* bytes, size_t length) {
  uint64_t seen = 0;
  size_t at = 0;
  for (; at + sizeof(uint64_t) <= length; at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + at, sizeof word);
    seen |= word;
  }
  for (; at < length; ++at) seen |= std::to_integer<uint64_t>(bytes[at]);
  return seen != 0;
}

// The loop over sectors, once for all forms. Data that is not zero usually shows it in its first
// bytes, so each form looks there before it reads the rest of the sector.
template <bool (*has_data)(const std::byte*)>
[[gnu::always_inline]] inline void scan_whole_sectors(std::span<const std::byte> data,
                                                      std::span<uint64_t> bitmap) {
  const size_t sectors = div_round_up(data.size(), kSectorSize);
  assert(bitmap.size() >= sector_bitmap_words(sectors));
  std::fill_n(bitmap.begin(), sector_bitmap_words(sectors), 0);
  const size_t whole = data.size() / kSectorSize;
  for (size_t sector = 0; sector < whole; ++sector) {
    const bool set = has_data(data.data() + sector * kSectorSize);
    bitmap[sector / 64] |= uint64_t{set} << (sector % 64);
  }
  if (whole < sectors) {
    const bool set =
        has_data_scalar(data.data() + whole * kSectorSize, data.size() - whole * kSectorSize);
    bitmap[whole / 64] |= uint64_t{set} << (whole % 64);
  }
}

bool sector_has_data_scalar(const std::byte* sector) {
  return has_data_scalar(sector, kSectorSize);
}

#if defined(__x86_64__)

bool sector_has_data_sse2(const std::byte* sector) {
  for (size_t at = 0; at < kSectorSize; at += 64) {
    const __m128i* const block = reinterpret_cast<const __m128i*>(sector + at);
    const __m128i low = _mm_or_si128(_mm_loadu_si128(block), _mm_loadu_si128(block + 1));
    const __m128i high = _mm_or_si128(_mm_loadu_si128(block + 2), _mm_loadu_si128(block + 3));
    const __m128i is_zero = _mm_cmpeq_epi8(_mm_or_si128(low, high), _mm_setzero_si128());
    if (_mm_movemask_epi8(is_zero) != 0xffff) return true;
  }
  return false;
}

void scan_sectors_sse2(std::span<const std::byte> data, std::span<uint64_t> bitmap) {
  scan_whole_sectors<sector_has_data_sse2>(data, bitmap);
}

[[gnu::target("avx2")]] bool sector_has_data_avx2(const std::byte* sector) {
  for (size_t at = 0; at < kSectorSize; at += 128) {
    const __m256i* const block = reinterpret_cast<const __m256i*>(sector + at);
    const __m256i low = _mm256_or_si256(_mm256_loadu_si256(block), _mm256_loadu_si256(block + 1));
    const __m256i high =
        _mm256_or_si256(_mm256_loadu_si256(block + 2), _mm256_loadu_si256(block + 3));
    const __m256i all = _mm256_or_si256(low, high);
    if (!_mm256_testz_si256(all, all)) return true;
  }
  return false;
}

[[gnu::target("avx2")]] void scan_sectors_avx2(std::span<const std::byte> data,
                                               std::span<uint64_t> bitmap) {
  scan_whole_sectors<sector_has_data_avx2>(data, bitmap);
}

#else

// The compiler's own vectors: NEON on aarch64, whatever there is elsewhere.
bool sector_has_data_vector(const std::byte* sector) {
  using Vector = uint64_t __attribute__((vector_size(16), aligned(1), may_alias));
  const Vector* const vectors = reinterpret_cast<const Vector*>(sector);
  for (size_t at = 0; at < kSectorSize / sizeof(Vector); at += 4) {
    const Vector all = vectors[at] | vectors[at + 1] | vectors[at + 2] | vectors[at + 3];
    if ((all[0] | all[1]) != 0) return true;
  }
  return false;
}

void scan_sectors_vector(std::span<const std::byte> data, std::span<uint64_t> bitmap) {
  scan_whole_sectors<sector_has_data_vector>(data, bitmap);
}

#endif

#if defined(__x86_64__)
constexpr NamedSectorScan kScans[] = {
    {"scalar", scan_sectors_scalar}, {"sse2", scan_sectors_sse2}, {"avx2", scan_sectors_avx2}};
#else
constexpr NamedSectorScan kScans[] = {{"scalar", scan_sectors_scalar},
                                      {"vector", scan_sectors_vector}};
#endif

}  // namespace

void scan_sectors_scalar(std::span<const std::byte> data, std::span<uint64_t> bitmap) {
  scan_whole_sectors<sector_has_data_scalar>(data, bitmap);
}

std::span<const NamedSectorScan> sector_scans() {
  const std::span<const NamedSectorScan> all(kScans);
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2")) return all.first(2);
#endif
  return all;
}

void scan_sectors(std::span<const std::byte> data, std::span<uint64_t> bitmap) {
  static const SectorScan fastest = sector_scans().back().scan;
  fastest(data, bitmap);
}

bool is_all_zero(std::span<const std::byte> data) {
  constexpr size_t kStep = 64 * kSectorSize;
  uint64_t bits = 0;
  while (!data.empty()) {
    const std::span<const std::byte> head = data.first(std::min(kStep, data.size()));
    scan_sectors(head, std::span(&bits, 1));
    if (bits != 0) return false;
    data = data.subspan(head.size());
  }
  return true;
}

}  // namespace imgconv
