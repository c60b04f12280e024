// Fuzz targets: every parser of bytes and texts from outside that works on memory alone.
#include <array>
#include <cstdlib>
#include <string>

#include "engine/image_name.h"
#include "engine/option_pieces.h"
#include "formats/codec.h"
#include "formats/options.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot.h"
#include "loop/memory_model/litmus.h"
#include "tests/fuzz/target.h"

namespace imgconv::fuzz {
namespace {

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

template <Codec codec>
void decompress(Bytes bytes) {
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
  NameWarnings warnings;
  Result<ImageSpec> spec = parse_image_name(std::string(text_of(bytes)), {}, warnings);
  if (spec && spec->file) static_cast<void>(display_name(*spec));
}

void parse_image_options(Bytes bytes) {
  NameWarnings warnings;
  static_cast<void>(parse_image_spec_options(text_of(bytes), warnings));
}

void parse_litmus_test(Bytes bytes) {
  static_cast<void>(memory_model::parse_litmus(text_of(bytes)));
}

constexpr std::array<FuzzTarget, 9> kTargets = {{{"header", parse_header, true},
                                                 {"snapshots", parse_snapshots},
                                                 {"bitmaps", parse_bitmaps},
                                                 {"deflate", decompress<Codec::kDeflate>},
                                                 {"zstd", decompress<Codec::kZstd>},
                                                 {"options", parse_creation_options},
                                                 {"names", parse_name},
                                                 {"image_opts", parse_image_options},
                                                 {"litmus", parse_litmus_test}}};

}  // namespace

std::span<const FuzzTarget> parser_targets() { return kTargets; }

}  // namespace imgconv::fuzz
