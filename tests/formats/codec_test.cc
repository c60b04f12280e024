#include "formats/codec.h"

#include <libdeflate.h>
#include <zlib.h>
#include <zstd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "tests/support/matchers.h"
#include "tests/support/pattern.h"

namespace imgconv {
namespace {

using test::FailsWith;
using test::IsOk;
using Bytes = std::vector<std::byte>;

/// Compressible, but not trivially.
Bytes text_cluster(size_t size) {
  std::string text;
  for (int i = 0; text.size() < size; ++i) {
    text += "line " + std::to_string(i) + " of the cluster\n";
  }
  const auto bytes = std::as_bytes(std::span(text)).first(size);
  return {bytes.begin(), bytes.end()};
}

/// Bytes without any repetition that a compressor could find.
Bytes noise(size_t size) {
  Bytes bytes(size);
  uint32_t state = 12345;
  for (std::byte& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

Bytes compressed(Codec codec, const Bytes& cluster) {
  Bytes room(cluster.size() * 2 + 100);
  const auto length = thread_compressor(codec).compress(cluster, room);
  REQUIRE(length.has_value());
  room.resize(*length);
  return room;
}

uint32_t checksum(const Bytes& bytes) { return libdeflate_crc32(0, bytes.data(), bytes.size()); }

Bytes deflate_without_end(const Bytes& cluster) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes room(cluster.size() * 2);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(cluster.data()));
  stream.avail_in = static_cast<uInt>(cluster.size());
  stream.next_out = reinterpret_cast<Bytef*>(room.data());
  stream.avail_out = static_cast<uInt>(room.size());
  REQUIRE(deflate(&stream, Z_SYNC_FLUSH) == Z_OK);
  room.resize(room.size() - stream.avail_out);
  deflateEnd(&stream);
  return room;
}

TEST_CASE("Codec: a cluster survives the round trip at every cluster size", "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  const size_t size = GENERATE(512U, 4096U, 65536U, 2097152U);
  for (const Bytes& cluster : {text_cluster(size), noise(size), Bytes(size)}) {
    const Bytes stream = compressed(codec, cluster);
    Bytes output(size, std::byte{0x11});
    CHECK_THAT(thread_decompressor(codec).decompress(stream, output), IsOk());
    CHECK(output == cluster);
  }
}

TEST_CASE("Codec: input behind the stream is ignored", "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  const std::byte filler = GENERATE(std::byte{0}, std::byte{0xff});
  const Bytes cluster = text_cluster(4096);
  Bytes stream = compressed(codec, cluster);
  stream.insert(stream.end(), 1000, filler);
  Bytes output(4096);
  CHECK_THAT(thread_decompressor(codec).decompress(stream, output), IsOk());
  CHECK(output == cluster);
}

TEST_CASE("Codec: a stream that gives fewer bytes than the cluster is an error",
          "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  const Bytes stream = compressed(codec, text_cluster(4096));
  Bytes output(8192);
  CHECK_THAT(thread_decompressor(codec).decompress(stream, output), FailsWith(EIO));
}

TEST_CASE("Codec: a stream cut at any length is an error", "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  const Bytes cluster = noise(512);
  const Bytes stream = compressed(codec, cluster);
  Bytes output(512);
  // The last bytes of a deflate stream may hold nothing but its end marker.
  for (size_t length = 0; length + 8 < stream.size(); ++length) {
    CHECK_THAT(thread_decompressor(codec).decompress(std::span(stream).first(length), output),
               FailsWith(EIO));
  }
}

TEST_CASE("Codec: a context is of use after a damaged stream", "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  const Bytes cluster = text_cluster(4096);
  const Bytes stream = compressed(codec, cluster);
  Bytes output(4096);
  CHECK_THAT(thread_decompressor(codec).decompress(Bytes(100, std::byte{0xff}), output),
             FailsWith(EIO));
  CHECK_THAT(thread_decompressor(codec).decompress(std::span(stream).first(20), output),
             FailsWith(EIO));
  CHECK_THAT(thread_decompressor(codec).decompress(stream, output), IsOk());
  CHECK(output == cluster);
}

TEST_CASE("Codec: a cluster that does not shrink is left uncompressed", "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  Bytes room(65535);
  CHECK_FALSE(thread_compressor(codec).compress(noise(65536), room).has_value());
  CHECK(thread_compressor(codec).compress(text_cluster(65536), room).has_value());
}

TEST_CASE("Codec: compressing the same cluster twice gives the same bytes", "[formats][codec]") {
  const Codec codec = GENERATE(Codec::kDeflate, Codec::kZstd);
  const Bytes cluster = text_cluster(65536);
  const Bytes once = compressed(codec, cluster);
  compressed(codec, noise(65536));
  CHECK(compressed(codec, cluster) == once);
}

TEST_CASE("Deflate: small clusters have the bytes of existing writers", "[formats][codec]") {
  // Python: zlib.compressobj(6, zlib.DEFLATED, -12, 9).
  const Bytes stream = compressed(Codec::kDeflate, text_cluster(4096));
  CHECK(stream.size() == 427);
  CHECK(checksum(stream) == 0x995452d6);
  // Long enough for the memory level to show in the bytes.
  Bytes six_bits = noise(8192);
  for (std::byte& byte : six_bits) byte &= std::byte{0x3f};
  const Bytes longer = compressed(Codec::kDeflate, six_bits);
  CHECK(longer.size() == 6203);
  CHECK(checksum(longer) == 0xd462f798);
}

TEST_CASE("Deflate: a stream without an end marker is accepted when the cluster is full",
          "[formats][codec]") {
  const Bytes cluster = text_cluster(4096);
  const Bytes stream = deflate_without_end(cluster);
  Bytes output(4096);
  CHECK_THAT(thread_decompressor(Codec::kDeflate).decompress(stream, output), IsOk());
  CHECK(output == cluster);
  // More than the cluster holds: what fits counts.
  Bytes first_half(2048);
  CHECK_THAT(thread_decompressor(Codec::kDeflate).decompress(stream, first_half), IsOk());
  CHECK(std::equal(first_half.begin(), first_half.end(), cluster.begin()));
}

TEST_CASE("Deflate: distances beyond 4 KiB are accepted", "[formats][codec]") {
  Bytes cluster = noise(16384);
  cluster.insert(cluster.end(), cluster.begin(), cluster.begin() + 16384);
  Bytes stream(cluster.size());
  libdeflate_compressor* compressor = libdeflate_alloc_compressor(6);
  stream.resize(libdeflate_deflate_compress(compressor, cluster.data(), cluster.size(),
                                            stream.data(), stream.size()));
  libdeflate_free_compressor(compressor);
  REQUIRE(stream.size() < 20000);
  Bytes output(cluster.size());
  CHECK_THAT(thread_decompressor(Codec::kDeflate).decompress(stream, output), IsOk());
  CHECK(output == cluster);
}

TEST_CASE("Zstd: the frame states the content size and has no checksum", "[formats][codec]") {
  const Bytes stream = compressed(Codec::kZstd, text_cluster(65536));
  const Bytes head(stream.begin(), stream.begin() + 7);
  // Magic, frame header descriptor, content size 65536 - 256 (QCOW2.md 4.2).
  const Bytes expected = {std::byte{0x28}, std::byte{0xb5}, std::byte{0x2f}, std::byte{0xfd},
                          std::byte{0x60}, std::byte{0x00}, std::byte{0xff}};
  CHECK(head == expected);
}

TEST_CASE("Zstd: several frames make up a cluster", "[formats][codec]") {
  const Bytes cluster = text_cluster(4096);
  const Bytes first(cluster.begin(), cluster.begin() + 1000);
  const Bytes second(cluster.begin() + 1000, cluster.end());
  Bytes stream = compressed(Codec::kZstd, first);
  const Bytes more = compressed(Codec::kZstd, second);
  stream.insert(stream.end(), more.begin(), more.end());
  Bytes output(4096);
  CHECK_THAT(thread_decompressor(Codec::kZstd).decompress(stream, output), IsOk());
  CHECK(output == cluster);
}

TEST_CASE("Zstd: a frame larger than the cluster is an error", "[formats][codec]") {
  const Bytes stream = compressed(Codec::kZstd, text_cluster(4096));
  Bytes output(2048);
  CHECK_THAT(thread_decompressor(Codec::kZstd).decompress(stream, output), FailsWith(EIO));
}

TEST_CASE("Zstd: a frame of unknown content size is accepted", "[formats][codec]") {
  const Bytes cluster = text_cluster(65536);
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  Bytes stream(70000);
  stream.resize(
      ZSTD_compress2(context, stream.data(), stream.size(), cluster.data(), cluster.size()));
  ZSTD_freeCCtx(context);
  Bytes output(65536);
  CHECK_THAT(thread_decompressor(Codec::kZstd).decompress(stream, output), IsOk());
  CHECK(output == cluster);
}

}  // namespace
}  // namespace imgconv
