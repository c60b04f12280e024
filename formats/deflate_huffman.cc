#include "formats/deflate_huffman.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace imgconv::rfc1951 {
namespace {

/// Symbols in the order of their frequency: the frequency above, the symbol in the low bits.
constexpr unsigned kSymbolBits = 10;

using Counts = std::array<uint32_t, kMaxCodeBits + 1>;

/// Depths of the leaves of an optimal tree, in place: ascending frequencies in, descending depths
/// out (Moffat and Katajainen, "In-place calculation of minimum-redundancy codes"). Requires: two
/// or more.
void frequencies_to_depths(std::span<uint32_t> tree) {
  const size_t count = tree.size();
  // Inner nodes are made from the front; each used one then holds its parent.
  size_t leaf = 0;
  size_t inner = 0;
  const auto take = [&](size_t next) {
    const bool takes_leaf = inner >= next || (leaf < count && tree[leaf] <= tree[inner]);
    if (takes_leaf) return tree[leaf++];
    const uint32_t weight = tree[inner];
    tree[inner++] = static_cast<uint32_t>(next);
    return weight;
  };
  for (size_t next = 0; next + 1 < count; ++next) {
    const uint32_t first = take(next);
    tree[next] = first + take(next);
  }
  // Parents to depths of inner nodes, from the root at count - 2.
  tree[count - 2] = 0;
  for (size_t next = count - 2; next-- > 0;) tree[next] = tree[tree[next]] + 1;
  // Depths of inner nodes to depths of leaves.
  size_t available = 1;
  size_t next_leaf = count;
  size_t next_inner = count - 1;
  for (uint32_t depth = 0; available > 0; ++depth) {
    size_t used = 0;
    while (next_inner > 0 && tree[next_inner - 1] == depth) {
      ++used;
      --next_inner;
    }
    for (size_t leaves = available - used; leaves > 0; --leaves) tree[--next_leaf] = depth;
    available = 2 * used;
  }
}

/// How many symbols get which length, with depths above `max_bits` cut off. What is over by that is
/// taken back where it costs least: one code of the longest length below the limit becomes two.
Counts limited_counts(std::span<const uint32_t> depths, unsigned max_bits) {
  Counts counts{};
  uint64_t used = 0;
  for (const uint32_t depth : depths) {
    const unsigned bits = std::min(depth, max_bits);
    ++counts[bits];
    used += uint64_t{1} << (max_bits - bits);
  }
  for (; used > uint64_t{1} << max_bits; --used) {
    unsigned bits = max_bits - 1;
    while (counts[bits] == 0) --bits;
    --counts[bits];
    counts[bits + 1] += 2;
    --counts[max_bits];
  }
  return counts;
}

uint16_t reversed(uint32_t code, unsigned bits) {
  code = (code & 0x5555) << 1 | (code >> 1 & 0x5555);
  code = (code & 0x3333) << 2 | (code >> 2 & 0x3333);
  code = (code & 0x0f0f) << 4 | (code >> 4 & 0x0f0f);
  code = (code & 0x00ff) << 8 | (code >> 8 & 0x00ff);
  return static_cast<uint16_t>(code >> (16 - bits));
}

}  // namespace

void make_code_lengths(std::span<const uint32_t> frequencies, unsigned max_bits,
                       std::span<uint8_t> lengths) {
  assert(frequencies.size() == lengths.size() && frequencies.size() <= kMaxSymbols);
  std::array<uint32_t, kMaxSymbols> sorted;
  size_t count = 0;
  for (size_t symbol = 0; symbol < frequencies.size(); ++symbol) {
    lengths[symbol] = 0;
    if (frequencies[symbol] == 0) continue;
    sorted[count++] = frequencies[symbol] << kSymbolBits | static_cast<uint32_t>(symbol);
  }
  if (count < 2) {
    lengths[count == 0 ? 0 : sorted[0] & ((1U << kSymbolBits) - 1)] = 1;
    return;
  }
  std::sort(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(count));
  std::array<uint32_t, kMaxSymbols> tree;
  for (size_t i = 0; i < count; ++i) tree[i] = sorted[i] >> kSymbolBits;
  const std::span<uint32_t> depths = std::span(tree).first(count);
  frequencies_to_depths(depths);
  Counts counts = limited_counts(depths, max_bits);
  // The rarest symbols come first.
  size_t at = 0;
  for (unsigned bits = max_bits; bits > 0; --bits) {
    for (; counts[bits] > 0; --counts[bits]) {
      lengths[sorted[at++] & ((1U << kSymbolBits) - 1)] = static_cast<uint8_t>(bits);
    }
  }
}

void make_codes(std::span<const uint8_t> lengths, std::span<uint16_t> codes) {
  Counts counts{};
  for (const uint8_t bits : lengths) ++counts[bits];
  counts[0] = 0;
  Counts next{};
  for (unsigned bits = 1; bits <= kMaxCodeBits; ++bits) {
    next[bits] = (next[bits - 1] + counts[bits - 1]) << 1;
  }
  for (size_t symbol = 0; symbol < lengths.size(); ++symbol) {
    const unsigned bits = lengths[symbol];
    if (bits != 0) codes[symbol] = reversed(next[bits]++, bits);
  }
}

}  // namespace imgconv::rfc1951
