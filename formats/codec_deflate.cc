#include "formats/codec_deflate.h"

#include <libdeflate.h>
#include <zlib.h>

#include <cassert>
#include <cerrno>
#include <limits>

#include "formats/deflate_encoder.h"
#include "loop/out_of_memory.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Negative window bits mean no zlib header. Reading: the largest window, so that a stream of any
/// writer is accepted. Writing: 4 KiB, which every reader has.
constexpr int kReadWindowBits = -15;
constexpr int kWriteWindowBits = -12;
/// What qemu-img uses; the same zlib then produces the same bytes (QCOW2.md 4.2).
constexpr int kWriteMemoryLevel = 9;

/// From here on our encoder's streams are no longer than zlib's (tests/bench/README.md, "Deflate").
constexpr size_t kMinFastCluster = 16 * kKiB;

struct LibdeflateDeleter {
  void operator()(libdeflate_decompressor* context) const { libdeflate_free_decompressor(context); }
};

// zlib's fields are not const-correct and 32 bits wide. Requires: a cluster, far below 4 GiB.
Bytef* zlib_pointer(const std::byte* bytes) {
  return reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes));
}
uInt zlib_size(size_t size) {
  assert(size <= std::numeric_limits<uInt>::max());
  return static_cast<uInt>(size);
}

void set_buffers(z_stream& stream, std::span<const std::byte> input, std::span<std::byte> output) {
  stream.next_in = zlib_pointer(input.data());
  stream.avail_in = zlib_size(input.size());
  stream.next_out = zlib_pointer(output.data());
  stream.avail_out = zlib_size(output.size());
}

class ZlibInflater {
 public:
  ZlibInflater() {
    if (inflateInit2(&stream_, kReadWindowBits) != Z_OK) out_of_memory();
  }
  ~ZlibInflater() { inflateEnd(&stream_); }
  ZlibInflater(const ZlibInflater&) = delete;
  ZlibInflater& operator=(const ZlibInflater&) = delete;

  /// True when the output is full, whether or not the stream says that it ends there.
  bool fill(std::span<const std::byte> input, std::span<std::byte> output) {
    if (inflateReset(&stream_) != Z_OK) return false;
    set_buffers(stream_, input, output);
    const int status = inflate(&stream_, Z_FINISH);
    if (status == Z_MEM_ERROR) out_of_memory();
    return (status == Z_STREAM_END || status == Z_BUF_ERROR) && stream_.avail_out == 0;
  }

 private:
  z_stream stream_{};
};

/// libdeflate is twice as fast as zlib, but wants a stream that ends exactly with the cluster. zlib
/// is asked when libdeflate refuses: other readers accept a stream without an end marker.
class DeflateDecompressor final : public Decompressor {
 public:
  DeflateDecompressor() : fast_(libdeflate_alloc_decompressor()) {
    if (!fast_) out_of_memory();
  }

  Result<void> decompress(std::span<const std::byte> input, std::span<std::byte> output) override {
    // Without a place for the actual length, anything but a full output is an error.
    const libdeflate_result result = libdeflate_deflate_decompress(
        fast_.get(), input.data(), input.size(), output.data(), output.size(), nullptr);
    if (result == LIBDEFLATE_SUCCESS) return ok();
    if (!tolerant_) tolerant_ = std::make_unique<ZlibInflater>();
    if (tolerant_->fill(input, output)) return ok();
    return Error::from_errno(EIO);
  }

 private:
  const std::unique_ptr<libdeflate_decompressor, LibdeflateDeleter> fast_;
  std::unique_ptr<ZlibInflater> tolerant_;
};

/// The bytes of qemu-img: shorter than our own for small clusters.
class ZlibCompressor final : public Compressor {
 public:
  ZlibCompressor() {
    const int status = deflateInit2(&stream_, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWriteWindowBits,
                                    kWriteMemoryLevel, Z_DEFAULT_STRATEGY);
    if (status != Z_OK) out_of_memory();
  }
  ~ZlibCompressor() override { deflateEnd(&stream_); }

  std::optional<size_t> compress(std::span<const std::byte> cluster,
                                 std::span<std::byte> output) override {
    if (deflateReset(&stream_) != Z_OK) return std::nullopt;
    set_buffers(stream_, cluster, output);
    if (deflate(&stream_, Z_FINISH) != Z_STREAM_END) return std::nullopt;
    return output.size() - stream_.avail_out;
  }

 private:
  z_stream stream_{};
};

class DeflateCompressor final : public Compressor {
 public:
  std::optional<size_t> compress(std::span<const std::byte> cluster,
                                 std::span<std::byte> output) override {
    if (cluster.size() >= kMinFastCluster) return encoder_.encode(cluster, output);
    if (!zlib_) zlib_ = std::make_unique<ZlibCompressor>();
    return zlib_->compress(cluster, output);
  }

 private:
  rfc1951::DeflateEncoder encoder_;
  std::unique_ptr<ZlibCompressor> zlib_;
};

}  // namespace

std::unique_ptr<Decompressor> make_deflate_decompressor() {
  return std::make_unique<DeflateDecompressor>();
}

std::unique_ptr<Compressor> make_deflate_compressor() {
  return std::make_unique<DeflateCompressor>();
}

}  // namespace imgconv
