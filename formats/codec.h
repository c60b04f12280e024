// Compressor and decompressor of single clusters. Contexts are expensive and not shared: each pool
// thread keeps its own (thread_codecs()). Formats know which codec a cluster has; nobody else names
// a library.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "formats/extent.h"
#include "loop/result.h"

namespace imgconv {

class Decompressor {
 public:
  virtual ~Decompressor() = default;
  /// Decodes exactly output.size() bytes; trailing input is ignored (QCOW2.md 4.2). EIO when the
  /// stream is damaged or too short.
  virtual Result<void> decompress(std::span<const std::byte> input,
                                  std::span<std::byte> output) = 0;
};

class Compressor {
 public:
  virtual ~Compressor() = default;
  /// Encodes the cluster into `output`. Returns the bytes used, or nothing when it does not fit:
  /// the cluster is then stored uncompressed. qcow2 hands in cluster size - 1 bytes of room.
  virtual std::optional<size_t> compress(std::span<const std::byte> cluster,
                                         std::span<std::byte> output) = 0;
};

std::unique_ptr<Decompressor> make_decompressor(Codec codec);
std::unique_ptr<Compressor> make_compressor(Codec codec);

/// This thread's own contexts, made at the first use of each.
Decompressor& thread_decompressor(Codec codec);
Compressor& thread_compressor(Codec codec);

}  // namespace imgconv
