#include "formats/codec.h"

#include <array>

#include "formats/codec_deflate.h"
#include "formats/codec_zstd.h"
#include "loop/per_thread.h"

namespace imgconv {
namespace {

struct CodecEntry {
  std::unique_ptr<Decompressor> (*make_decompressor)();
  std::unique_ptr<Compressor> (*make_compressor)();
};

/// In the order of enum Codec.
constexpr std::array<CodecEntry, 2> kCodecs = {{
    {make_deflate_decompressor, make_deflate_compressor},
    {make_zstd_decompressor, make_zstd_compressor},
}};

const CodecEntry& entry_of(Codec codec) { return kCodecs[static_cast<size_t>(codec)]; }

}  // namespace

std::unique_ptr<Decompressor> make_decompressor(Codec codec) {
  return entry_of(codec).make_decompressor();
}

std::unique_ptr<Compressor> make_compressor(Codec codec) {
  return entry_of(codec).make_compressor();
}

Decompressor& thread_decompressor(Codec codec) {
  static const PerThread<std::array<std::unique_ptr<Decompressor>, kCodecs.size()>> contexts;
  std::unique_ptr<Decompressor>& context = contexts.get()[static_cast<size_t>(codec)];
  if (!context) context = make_decompressor(codec);
  return *context;
}

Compressor& thread_compressor(Codec codec) {
  static const PerThread<std::array<std::unique_ptr<Compressor>, kCodecs.size()>> contexts;
  std::unique_ptr<Compressor>& context = contexts.get()[static_cast<size_t>(codec)];
  if (!context) context = make_compressor(codec);
  return *context;
}

}  // namespace imgconv
