#include "formats/codec_zstd.h"

// For ZSTD_d_stableOutBuffer.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>

#include "loop/out_of_memory.h"

namespace imgconv {
namespace {

/// zstd's default, and what other writers of qcow2 use.
constexpr int kLevel = 3;

/// Whether it is an error. Memory that is missing is nothing that the image could help.
bool is_error(size_t result) {
  if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation) out_of_memory();
  return ZSTD_isError(result) != 0;
}

struct ZstdDeleter {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

class ZstdDecompressor final : public Decompressor {
 public:
  ZstdDecompressor() : context_(ZSTD_createDCtx()) {
    if (!context_) out_of_memory();
    // The cluster itself is the window: no copy of it, and no window of up to 128 MiB that a
    // hostile frame header could ask for.
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_stableOutBuffer, 1);
  }

  Result<void> decompress(std::span<const std::byte> input, std::span<std::byte> output) override {
    ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only);
    ZSTD_inBuffer in{input.data(), input.size(), 0};
    ZSTD_outBuffer out{output.data(), output.size(), 0};
    // Several frames may follow each other. The last one must end where the cluster does.
    size_t bytes_missing = 0;
    do {
      const size_t in_before = in.pos;
      const size_t out_before = out.pos;
      bytes_missing = ZSTD_decompressStream(context_.get(), &out, &in);
      const bool has_progress = in.pos > in_before || out.pos > out_before;
      if (is_error(bytes_missing) || !has_progress) return Error::from_errno(EIO);
    } while (out.pos < out.size);
    if (bytes_missing != 0) return Error::from_errno(EIO);
    return ok();
  }

 private:
  const std::unique_ptr<ZSTD_DCtx, ZstdDeleter> context_;
};

class ZstdCompressor final : public Compressor {
 public:
  ZstdCompressor() : context_(ZSTD_createCCtx()) {
    if (!context_) out_of_memory();
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kLevel);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_contentSizeFlag, 1);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 0);
  }

  std::optional<size_t> compress(std::span<const std::byte> cluster,
                                 std::span<std::byte> output) override {
    const size_t length = ZSTD_compress2(context_.get(), output.data(), output.size(),
                                         cluster.data(), cluster.size());
    if (is_error(length)) return std::nullopt;
    return length;
  }

 private:
  const std::unique_ptr<ZSTD_CCtx, ZstdDeleter> context_;
};

}  // namespace

std::unique_ptr<Decompressor> make_zstd_decompressor() {
  return std::make_unique<ZstdDecompressor>();
}

std::unique_ptr<Compressor> make_zstd_compressor() { return std::make_unique<ZstdCompressor>(); }

}  // namespace imgconv
