// libFuzzer target: every parser of bytes and texts from outside that works on memory alone. The
// first byte says which one. tests/fuzz/libfuzzer.sh builds and runs it; the suite does without
// clang.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "engine/image_name.h"
#include "engine/option_pieces.h"
#include "formats/codec.h"
#include "formats/options.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot.h"
#include "formats/registry.h"
#include "loop/memory_model/litmus.h"

namespace imgconv {

/// Stands in for the registry, so that the drivers and all they need are not built.
const BlockDriver* find_driver(std::string_view) { return nullptr; }

namespace {

using Bytes = std::span<const std::byte>;

std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What was accepted must come out again as it went in, and be accepted again.
void parse_header(Bytes bytes) {
  for (const bool writable : {false, true}) {
    qcow2::HeaderParseOptions options;
    options.writable = writable;
    options.for_check = writable;
    const Result<qcow2::Header> header = qcow2::Header::parse(bytes, options);
    if (!header) continue;
    const auto written = header->serialize();
    if (written && !qcow2::Header::parse(*written, options)) std::abort();
  }
}

void parse_snapshots(Bytes bytes) {
  const uint32_t count = bytes.empty() ? 0 : std::to_integer<uint32_t>(bytes[0]);
  const auto table = qcow2::parse_snapshot_table(bytes, count, 1 << 20);
  if (table && table->snapshots.size() != count) std::abort();
}

void parse_bitmaps(Bytes bytes) {
  qcow2::BitmapsExtension extension;
  extension.bitmap_count = bytes.empty() ? 1 : std::to_integer<uint32_t>(bytes[0]);
  extension.directory_size = bytes.size();
  qcow2::Header header;
  header.virtual_size = 1 << 20;
  header.extensions.bitmaps = extension;
  const auto bitmaps = qcow2::parse_bitmap_directory(bytes, header);
  if (bitmaps && qcow2::serialize_bitmap_directory(*bitmaps).size() > bytes.size()) std::abort();
}

void decompress(Codec codec, Bytes bytes) {
  std::vector<std::byte> cluster(4096);
  static_cast<void>(thread_decompressor(codec).decompress(bytes, cluster));
}

void parse_creation_options(Bytes bytes) {
  static const OptionList kList = {{"size", OptionType::kSize, "", {}},
                                   {"number", OptionType::kNumber, "", {}},
                                   {"flag", OptionType::kBool, "", {}},
                                   {"name", OptionType::kString, "", {}}};
  static_cast<void>(parse_options(kList, text_of(bytes)));
  static_cast<void>(split_option_pieces(text_of(bytes)));
  static_cast<void>(is_valid_option_text(text_of(bytes)));
}

void parse_name(Bytes bytes) {
  Result<ImageSpec> spec = parse_image_name(std::string(text_of(bytes)));
  if (spec && spec->file) static_cast<void>(display_name(*spec));
}

void parse(unsigned kind, Bytes bytes) {
  switch (kind % 9) {
    case 0:
      return parse_header(bytes);
    case 1:
      return parse_snapshots(bytes);
    case 2:
      return parse_bitmaps(bytes);
    case 3:
      return decompress(Codec::kDeflate, bytes);
    case 4:
      return decompress(Codec::kZstd, bytes);
    case 5:
      return parse_creation_options(bytes);
    case 6:
      return parse_name(bytes);
    case 7:
      static_cast<void>(parse_image_spec_options(text_of(bytes)));
      return;
    default:
      static_cast<void>(memory_model::parse_litmus(text_of(bytes)));
  }
}

}  // namespace
}  // namespace imgconv

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  imgconv::parse(data[0], bytes.subspan(1));
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

/// Knows where a header has its fields, and what values are at their limits.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  struct Field {
    size_t offset;
    size_t bytes;
  };
  static constexpr std::array<Field, 18> kFields = {{{4, 4},
                                                     {8, 8},
                                                     {16, 4},
                                                     {20, 4},
                                                     {24, 8},
                                                     {32, 4},
                                                     {36, 4},
                                                     {40, 8},
                                                     {48, 8},
                                                     {56, 4},
                                                     {60, 4},
                                                     {64, 8},
                                                     {72, 8},
                                                     {80, 8},
                                                     {88, 8},
                                                     {96, 4},
                                                     {100, 4},
                                                     {104, 1}}};
  static constexpr std::array<uint64_t, 14> kValues = {
      0,     1,          2,          9,          16,         21,         104,
      65536, 0x00400000, 1ULL << 31, 0xffffffff, 1ULL << 56, 1ULL << 63, ~0ULL};
  const bool is_header = size > 113 && data[0] % 9 == 0;
  if (!is_header || seed % 3 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const Field field = kFields[seed / 3 % kFields.size()];
  uint64_t value = kValues[seed / 57 % kValues.size()];
  for (size_t i = field.bytes; i-- > 0; value >>= 8) {
    data[1 + field.offset + i] = static_cast<uint8_t>(value);
  }
  return size;
}
