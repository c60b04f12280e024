// The judge is zlib: it decodes what was written, a few bytes at a time, so that nothing but its
// own window of 4 KiB can serve a distance.
#include "formats/deflate_encoder.h"

#include <zlib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/deflate_huffman.h"

namespace imgconv {
namespace {

using Bytes = std::vector<std::byte>;

Bytes encode(const Bytes& input, size_t room) {
  // One for all tests, as a thread has it: nothing may be left of the input before.
  static const auto encoder = std::make_unique<rfc1951::DeflateEncoder>();
  Bytes stream(room);
  const std::optional<size_t> length = encoder->encode(input, stream);
  stream.resize(length.value_or(0));
  return stream;
}
Bytes encode(const Bytes& input) { return encode(input, input.size() * 2 + 100); }

Bytef* pointer(const std::byte* bytes) {
  return reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes));
}

/// What zlib makes of the stream; nothing when it objects, or something is left over.
Bytes decode(const Bytes& stream, size_t expected_size) {
  constexpr size_t kStep = 97;
  Bytes output(expected_size + kStep);
  z_stream state{};
  REQUIRE(inflateInit2(&state, -12) == Z_OK);
  state.next_in = pointer(stream.data());
  state.avail_in = static_cast<uInt>(stream.size());
  size_t done = 0;
  int status = Z_OK;
  while (status == Z_OK && done < output.size()) {
    const size_t step = std::min(kStep, output.size() - done);
    state.next_out = pointer(output.data() + done);
    state.avail_out = static_cast<uInt>(step);
    status = inflate(&state, Z_NO_FLUSH);
    done += step - state.avail_out;
  }
  const bool is_whole = status == Z_STREAM_END && state.avail_in == 0;
  inflateEnd(&state);
  output.resize(is_whole ? done : 0);
  return output;
}

Bytes zlib_stream(const Bytes& input) {
  Bytes stream(input.size() * 2 + 100);
  z_stream state{};
  REQUIRE(deflateInit2(&state, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  state.next_in = pointer(input.data());
  state.avail_in = static_cast<uInt>(input.size());
  state.next_out = pointer(stream.data());
  state.avail_out = static_cast<uInt>(stream.size());
  REQUIRE(deflate(&state, Z_FINISH) == Z_STREAM_END);
  stream.resize(state.total_out);
  deflateEnd(&state);
  return stream;
}

Bytes noise(size_t size, std::mt19937& random, unsigned values = 256) {
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % values);
  return bytes;
}

Bytes text(size_t size, std::mt19937& random) {
  static const std::vector<std::string> words = {"cluster ", "of ",    "the ",  "disk\n",
                                                 "window ",  "4096 ",  "byte ", "match ",
                                                 "and ",     "stream "};
  std::string all;
  while (all.size() < size) {
    all += words[random() % words.size()];
    if (random() % 8 == 0) all += std::to_string(random() % 100000);
  }
  const auto bytes = std::as_bytes(std::span(all)).first(size);
  return {bytes.begin(), bytes.end()};
}

/// Copies of what lies `distance` back, in pieces, with noise between.
Bytes repeats(size_t size, size_t distance, std::mt19937& random) {
  Bytes bytes = noise(size, random);
  for (size_t at = distance; at < size;) {
    const size_t end = std::min(size, at + 3 + random() % 300);
    for (; at < end; ++at) bytes[at] = bytes[at - distance];
    at += random() % 5;
  }
  return bytes;
}

void check_round_trip(const Bytes& input) {
  const Bytes stream = encode(input);
  REQUIRE(!stream.empty());
  REQUIRE(decode(stream, input.size()) == input);
}

TEST_CASE("Deflate encoder: a reader with a window of 4 KiB reads everything",
          "[formats][deflate]") {
  std::mt19937 random(1);
  const size_t size = GENERATE(0U, 1U, 7U, 8U, 9U, 300U, 4096U, 16384U, 65536U, 65537U, 300000U);
  check_round_trip(Bytes(size));
  check_round_trip(noise(size, random));
  check_round_trip(noise(size, random, 2));
  check_round_trip(noise(size, random, 60));
  check_round_trip(text(size, random));
}

TEST_CASE("Deflate encoder: matches are found up to 4 KiB back and no further",
          "[formats][deflate]") {
  std::mt19937 random(2);
  const size_t distance = GENERATE(1U, 2U, 3U, 255U, 256U, 257U, 4000U, 4095U, 4096U);
  const Bytes near = repeats(65536, distance, random);
  CHECK(encode(near).size() < near.size() / 2);
  check_round_trip(near);
  const Bytes far = repeats(65536, distance + 4096, random);
  CHECK(encode(far).size() > far.size() * 9 / 10);
  check_round_trip(far);
}

TEST_CASE("Deflate encoder: clusters longer than 16-bit positions reach keep their matches",
          "[formats][deflate]") {
  std::mt19937 random(3);
  const Bytes whole = text(2 << 20, random);
  const size_t whole_size = encode(whole).size();
  check_round_trip(whole);
  const Bytes first(whole.begin(), whole.begin() + (1 << 18));
  // The same text costs as much at the end as at the beginning.
  CHECK(whole_size < encode(first).size() * 8 * 102 / 100);
}

TEST_CASE("Deflate encoder: parts of different kind get codes of their own", "[formats][deflate]") {
  std::mt19937 random(4);
  Bytes mixed;
  size_t apart = 0;
  for (int part = 0; part < 4; ++part) {
    const Bytes piece = part % 2 == 0 ? text(16384, random) : noise(16384, random, 16);
    apart += encode(piece).size();
    mixed.insert(mixed.end(), piece.begin(), piece.end());
  }
  CHECK(encode(mixed).size() < apart * 101 / 100);
  check_round_trip(mixed);
}

TEST_CASE("Deflate encoder: frequencies that want long codes are limited", "[formats][deflate]") {
  // Fibonacci numbers make the deepest trees: 24 symbols would need codes of 23 bits.
  Bytes input;
  size_t previous = 1;
  size_t count = 1;
  for (int symbol = 0; symbol < 24; ++symbol) {
    input.insert(input.end(), count, static_cast<std::byte>(symbol * 7));
    count += std::exchange(previous, count);
  }
  std::mt19937 random(5);
  std::shuffle(input.begin(), input.end(), random);
  check_round_trip(input);
}

TEST_CASE("Deflate encoder: no stream is written over the end of the room", "[formats][deflate]") {
  std::mt19937 random(6);
  const Bytes input = GENERATE_REF(text(20000, random), noise(20000, random));
  const size_t full = encode(input).size();
  for (size_t room = 0; room < full + 40; room += room + 60 < full ? 1000 : 1) {
    Bytes guarded(room + 64, std::byte{0x5a});
    static const auto encoder = std::make_unique<rfc1951::DeflateEncoder>();
    const std::optional<size_t> length = encoder->encode(input, std::span(guarded).first(room));
    CHECK(std::all_of(guarded.begin() + static_cast<std::ptrdiff_t>(room), guarded.end(),
                      [](std::byte byte) { return byte == std::byte{0x5a}; }));
    // Eight bytes are lost to writing words.
    CHECK(length.has_value() == (room >= full + rfc1951::BitWriter::kSlack));
    if (length) CHECK(*length == full);
  }
}

TEST_CASE("Deflate encoder: incompressible bytes cost five more in each block",
          "[formats][deflate]") {
  std::mt19937 random(7);
  CHECK(encode(noise(30000, random)).size() == 30005);
}

TEST_CASE("Deflate encoder: the same input gives the same stream", "[formats][deflate]") {
  std::mt19937 random(8);
  const Bytes input = text(65536, random);
  const Bytes once = encode(input);
  encode(noise(65536, random));
  CHECK(encode(input) == once);
}

TEST_CASE("Deflate encoder: streams are not much longer than zlib's where it searches longest",
          "[formats][deflate]") {
  std::mt19937 random(9);
  for (const Bytes& input :
       {text(65536, random), noise(65536, random, 60), Bytes(65536), repeats(65536, 700, random)}) {
    CHECK(encode(input).size() <= zlib_stream(input).size() * 112 / 100 + 30);
  }
}

TEST_CASE("Huffman: lengths make a complete code within the limit", "[formats][deflate]") {
  std::mt19937 random(10);
  for (int round = 0; round < 2000; ++round) {
    const size_t symbols = 2 + random() % 286;
    const unsigned max_bits = symbols > 128 ? 15 : 8 + random() % 8;
    std::vector<uint32_t> frequencies(symbols);
    for (uint32_t& frequency : frequencies) frequency = random() % 3 ? 1 << random() % 21 : 0;
    frequencies[random() % symbols] = 3;
    std::vector<uint8_t> lengths(symbols);
    rfc1951::make_code_lengths(frequencies, max_bits, lengths);
    uint64_t used = 0;
    size_t occurring = 0;
    for (size_t symbol = 0; symbol < symbols; ++symbol) {
      REQUIRE((lengths[symbol] != 0) == (frequencies[symbol] != 0));
      REQUIRE(lengths[symbol] <= max_bits);
      if (lengths[symbol] == 0) continue;
      ++occurring;
      used += uint64_t{1} << (max_bits - lengths[symbol]);
    }
    if (occurring > 1) REQUIRE(used == uint64_t{1} << max_bits);
  }
}

TEST_CASE("Huffman: rarer symbols never have shorter codes", "[formats][deflate]") {
  const std::vector<uint32_t> frequencies = {5, 9, 12, 13, 16, 45};
  std::vector<uint8_t> lengths(frequencies.size());
  rfc1951::make_code_lengths(frequencies, 15, lengths);
  // The textbook's example: 224 bits in all.
  CHECK(lengths == std::vector<uint8_t>{4, 4, 3, 3, 3, 1});
}

}  // namespace
}  // namespace imgconv
