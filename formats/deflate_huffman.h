// Huffman codes of deflate: lengths for given frequencies, and the codes that follow from lengths
// (RFC 1951, 3.2.2). Pure functions, any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace imgconv::rfc1951 {

/// The most symbols that a code here has: the fixed code for literals and lengths.
inline constexpr size_t kMaxSymbols = 288;
inline constexpr unsigned kMaxCodeBits = 15;

/// A length for each symbol, 0 for those that do not occur; no length is above `max_bits`. One
/// symbol alone, or none at all, still makes a code with a symbol of length 1.
/// Requires: as many lengths as frequencies, their number fits into `max_bits`; frequencies below
/// 2^22.
void make_code_lengths(std::span<const uint32_t> frequencies, unsigned max_bits,
                       std::span<uint8_t> lengths);

/// The canonical codes, bit-reversed, as they are written.
void make_codes(std::span<const uint8_t> lengths, std::span<uint16_t> codes);

}  // namespace imgconv::rfc1951
