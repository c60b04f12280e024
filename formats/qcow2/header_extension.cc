#include "formats/qcow2/header_extension.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// QEMU's buffer of a format name (QCOW2.md 1.4).
constexpr uint32_t kMaxFormatNameBytes = 16;

struct FeatureName {
  uint8_t type;
  uint8_t bit;
  std::string_view name;
};
constexpr uint8_t kIncompatible = 0;
constexpr uint8_t kCompatible = 1;
constexpr uint8_t kAutoclear = 2;
/// The table as QEMU writes it (QCOW2.md 1.4).
constexpr std::array<FeatureName, 8> kFeatureNames = {{
    {kIncompatible, 0, "dirty bit"},
    {kIncompatible, 1, "corrupt bit"},
    {kIncompatible, 2, "external data file"},
    {kIncompatible, 3, "compression type"},
    {kIncompatible, 4, "extended L2 entries"},
    {kCompatible, 0, "lazy refcounts"},
    {kAutoclear, 0, "bitmaps"},
    {kAutoclear, 1, "raw external data"},
}};

struct RawEntry {
  uint32_t type = 0;
  std::span<const std::byte> data;
};

/// Walks the extensions of [begin, end).
class ExtensionReader {
 public:
  ExtensionReader(std::span<const std::byte> cluster, uint64_t begin, uint64_t end)
      : cluster_(cluster), position_(begin), end_(end) {}

  /// The next extension; nothing after the end marker or at the end of the space.
  Result<std::optional<RawEntry>> next() {
    if (position_ >= end_) return std::optional<RawEntry>();
    const RawExtension raw = load_struct<RawExtension>(bytes_from(position_));
    position_ += sizeof(RawExtension);
    const uint32_t length = raw.length.get();
    if (position_ > end_ || length > end_ - position_) {
      return Error(EINVAL, "Header extension too large");
    }
    if (raw.type.get() == kExtensionEnd) return std::optional<RawEntry>();
    // A file that ends inside the cluster: QEMU reads zeros there.
    const std::span<const std::byte> rest = bytes_from(position_);
    if (rest.size() < length) {
      padded_.assign(length, std::byte{0});
      std::ranges::copy(rest, padded_.begin());
    }
    const auto data =
        rest.size() < length ? std::span<const std::byte>(padded_) : rest.first(length);
    position_ += round_up(length, 8);
    return std::optional<RawEntry>(RawEntry{raw.type.get(), data});
  }

 private:
  std::span<const std::byte> bytes_from(uint64_t position) const {
    return cluster_.subspan(std::min<uint64_t>(position, cluster_.size()));
  }

  std::span<const std::byte> cluster_;
  uint64_t position_;
  uint64_t end_;
  std::vector<std::byte> padded_;
};

/// Up to the first NUL: names end there for every reader written in C.
std::string text_of(std::span<const std::byte> data) {
  std::string text(data.size(), '\0');
  if (!data.empty()) std::memcpy(text.data(), data.data(), data.size());
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

Result<CryptoExtension> parse_crypto(std::span<const std::byte> data,
                                     const ExtensionContext& context) {
  constexpr uint32_t kLuks = 2;
  if (context.crypt_method != kLuks) {
    return Error(EINVAL, "CRYPTO header extension only expected with LUKS encryption method");
  }
  if (data.size() != sizeof(RawCryptoExtension)) {
    return Error(EINVAL, fmt::format("CRYPTO header extension size {}, but expected size {}",
                                     data.size(), sizeof(RawCryptoExtension)));
  }
  const auto raw = load_struct<RawCryptoExtension>(data);
  const HostOffset offset(raw.offset.get());
  if (!is_cluster_aligned(offset, context.cluster_bits)) {
    return Error(EINVAL,
                 fmt::format("Encryption header offset '{}' is not a multiple of cluster size '{}'",
                             offset.bytes(), uint64_t{1} << context.cluster_bits));
  }
  return CryptoExtension{offset, raw.length.get()};
}

Result<BitmapsExtension> parse_bitmaps(std::span<const std::byte> data, unsigned cluster_bits) {
  const auto raw = load_struct<RawBitmapsExtension>(data);
  if (raw.reserved.get() != 0) return Error(EINVAL, "bitmaps_ext: Reserved field is not zero");
  const uint32_t count = raw.bitmap_count.get();
  if (count > kMaxBitmaps) {
    return Error(EINVAL,
                 fmt::format("bitmaps_ext: Image has {} bitmaps, exceeding the QEMU supported "
                             "maximum of {}",
                             count, kMaxBitmaps));
  }
  if (count == 0) return Error(EINVAL, "found bitmaps extension with zero bitmaps");
  const HostOffset offset(raw.directory_offset.get());
  if (!is_cluster_aligned(offset, cluster_bits)) {
    return Error(EINVAL, "bitmaps_ext: invalid bitmap directory offset");
  }
  const uint64_t size = raw.directory_size.get();
  if (size > kMaxBitmapDirectoryBytes) {
    return Error(EINVAL, fmt::format("bitmaps_ext: bitmap directory size ({}) exceeds the maximum "
                                     "supported size ({})",
                                     size, kMaxBitmapDirectoryBytes));
  }
  return BitmapsExtension{count, size, offset};
}

Result<void> take_extension(HeaderExtensions& into, const RawEntry& entry,
                            const ExtensionContext& context) {
  switch (entry.type) {
    case kExtensionBackingFormat:
      if (entry.data.size() >= kMaxFormatNameBytes) {
        return Error(EINVAL, fmt::format("ERROR: ext_backing_format: len={} too large (>={})",
                                         entry.data.size(), kMaxFormatNameBytes));
      }
      into.backing_format = text_of(entry.data);
      return ok();
    case kExtensionFeatureNames:
      return ok();  // Written anew with every header; only refusals read it.
    case kExtensionCrypto: {
      ASSIGN_OR_RETURN(into.crypto, parse_crypto(entry.data, context));
      return ok();
    }
    case kExtensionBitmaps: {
      if (entry.data.size() != sizeof(RawBitmapsExtension)) {
        return Error(EINVAL, "bitmaps_ext: Invalid extension length");
      }
      if (!context.has_bitmaps_feature) {
        into.has_inconsistent_bitmaps = true;
        return ok();
      }
      ASSIGN_OR_RETURN(into.bitmaps, parse_bitmaps(entry.data, context.cluster_bits));
      return ok();
    }
    case kExtensionDataFile:
      into.data_file = text_of(entry.data);
      return ok();
    default:
      into.unknown.push_back({entry.type, {entry.data.begin(), entry.data.end()}});
      return ok();
  }
}

void append_bytes(std::vector<std::byte>& out, std::span<const std::byte> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_extension(std::vector<std::byte>& out, uint32_t type, std::span<const std::byte> data) {
  RawExtension raw;
  raw.type = type;
  raw.length = static_cast<uint32_t>(data.size());
  append_bytes(out, std::as_bytes(std::span(&raw, 1)));
  append_bytes(out, data);
  out.resize(out.size() + (round_up(data.size(), 8) - data.size()));
}

void append_feature_names(std::vector<std::byte>& out) {
  std::array<RawFeatureName, kFeatureNames.size()> table{};
  for (size_t i = 0; i < table.size(); ++i) {
    table[i].type = kFeatureNames[i].type;
    table[i].bit = kFeatureNames[i].bit;
    std::ranges::copy(kFeatureNames[i].name, table[i].name);
  }
  append_extension(out, kExtensionFeatureNames, std::as_bytes(std::span(table)));
}

}  // namespace

Result<HeaderExtensions> parse_extensions(std::span<const std::byte> cluster, uint64_t begin,
                                          uint64_t end, const ExtensionContext& context) {
  HeaderExtensions extensions;
  ExtensionReader reader(cluster, begin, end);
  for (;;) {
    ASSIGN_OR_RETURN(const std::optional<RawEntry> entry, reader.next());
    if (!entry) return extensions;
    RETURN_IF_ERROR(take_extension(extensions, *entry, context));
  }
}

std::string describe_features(std::span<const std::byte> cluster, uint64_t begin, uint64_t end,
                              uint64_t mask) {
  std::string text;
  const auto add = [&text](std::string_view piece) {
    if (!text.empty()) text += ", ";
    text += piece;
  };
  ExtensionReader reader(cluster, begin, end);
  for (auto entry = reader.next(); entry && *entry; entry = reader.next()) {
    if ((*entry)->type != kExtensionFeatureNames) continue;
    // A last entry that is cut short counts, its name being what there is of it.
    std::vector<std::byte> padded((*entry)->data.begin(), (*entry)->data.end());
    padded.resize(round_up(padded.size(), sizeof(RawFeatureName)));
    std::span<const std::byte> table = padded;
    while (!table.empty()) {
      const auto feature = load_struct<RawFeatureName>(table);
      table = table.subspan(sizeof(RawFeatureName));
      const std::string name = text_of(std::as_bytes(std::span(feature.name)));
      if (name.empty()) break;
      if (feature.type != kIncompatible || feature.bit >= 64) continue;
      if ((mask >> feature.bit & 1) == 0) continue;
      mask &= ~(uint64_t{1} << feature.bit);
      add(name);
    }
  }
  if (mask != 0) add(fmt::format("Unknown incompatible feature: {:x}", mask));
  return text;
}

void append_extensions(std::vector<std::byte>& out, const HeaderExtensions& extensions,
                       bool with_feature_names) {
  if (extensions.backing_format) {
    append_extension(out, kExtensionBackingFormat,
                     std::as_bytes(std::span(*extensions.backing_format)));
  }
  if (extensions.data_file) {
    append_extension(out, kExtensionDataFile, std::as_bytes(std::span(*extensions.data_file)));
  }
  if (extensions.crypto) {
    RawCryptoExtension raw;
    raw.offset = extensions.crypto->offset.bytes();
    raw.length = extensions.crypto->length;
    append_extension(out, kExtensionCrypto, std::as_bytes(std::span(&raw, 1)));
  }
  if (with_feature_names) append_feature_names(out);
  if (extensions.bitmaps) {
    RawBitmapsExtension raw;
    raw.bitmap_count = extensions.bitmaps->bitmap_count;
    raw.directory_size = extensions.bitmaps->directory_size;
    raw.directory_offset = extensions.bitmaps->directory_offset.bytes();
    append_extension(out, kExtensionBitmaps, std::as_bytes(std::span(&raw, 1)));
  }
  for (const UnknownExtension& extension : extensions.unknown) {
    append_extension(out, extension.type, extension.data);
  }
  append_extension(out, kExtensionEnd, {});
}

}  // namespace imgconv::qcow2
