#include "formats/qcow2/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// QEMU leaves the table of feature names out of small clusters (QCOW2.md 1.4).
constexpr uint64_t kLargestClusterWithoutNames = 4096;

struct TableLimit {
  uint64_t max_bytes;
  const char* name;
};

/// One rule for every table that the header points to.
Result<void> check_table(HostOffset offset, uint64_t entries, uint64_t entry_bytes,
                         unsigned cluster_bits, TableLimit limit) {
  if (entries > limit.max_bytes / entry_bytes) {
    return Error(EFBIG, fmt::format("{} too large", limit.name));
  }
  constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
  if (offset.bytes() > kMaxOffset - entries * entry_bytes ||
      !is_cluster_aligned(offset, cluster_bits)) {
    return Error(EINVAL, fmt::format("{} offset invalid", limit.name));
  }
  return ok();
}

/// The fields up to header_length, which decide what the rest means.
Result<void> take_basics(Header& header, const RawHeader& raw, const HeaderParseOptions& options) {
  if (raw.magic.get() != kMagic) return Error(EINVAL, "Image is not in qcow2 format");
  header.version = raw.version.get();
  if (header.version < 2 || header.version > 3) {
    return Error(ENOTSUP, fmt::format("Unsupported qcow2 version {}", header.version));
  }
  header.cluster_bits = raw.cluster_bits.get();
  if (header.cluster_bits < kMinClusterBits || header.cluster_bits > kMaxClusterBits) {
    return Error(EINVAL, fmt::format("Unsupported cluster size: 2^{}", header.cluster_bits));
  }
  if (header.version >= 3) {
    header.incompatible_features = raw.incompatible_features.get();
    header.compatible_features = raw.compatible_features.get();
    header.autoclear_features = raw.autoclear_features.get();
    header.refcount_order = raw.refcount_order.get();
    if (raw.header_length.get() < kMinV3HeaderBytes) {
      return Error(EINVAL, "qcow2 header too short");
    }
    if (raw.header_length.get() > header.cluster_size()) {
      return Error(EINVAL, "qcow2 header exceeds cluster size");
    }
  }
  if (raw.backing_file_offset.get() > header.cluster_size()) {
    return Error(EINVAL, "Invalid backing file offset");
  }
  header.is_incomplete = options.incomplete_size.has_value();
  header.virtual_size = options.incomplete_size.value_or(raw.size.get());
  header.l1_entries = raw.l1_size.get();
  header.l1_table_offset = HostOffset(raw.l1_table_offset.get());
  header.refcount_table_offset = HostOffset(raw.refcount_table_offset.get());
  header.refcount_table_clusters = raw.refcount_table_clusters.get();
  header.snapshot_count = raw.nb_snapshots.get();
  header.snapshot_table_offset = HostOffset(raw.snapshots_offset.get());
  return ok();
}

Result<void> check_compression(Header& header, uint8_t type) {
  if (type > static_cast<uint8_t>(Codec::kZstd)) {
    return Error(ENOTSUP, fmt::format("qcow2: unknown compression type: {}", type));
  }
  header.compression = static_cast<Codec>(type);
  const bool needs_bit = header.compression != Codec::kDeflate;
  if (needs_bit == header.has(kIncompatCompression)) return ok();
  return Error(EINVAL, fmt::format("qcow2: Compression type incompatible feature bit must{} be set",
                                   needs_bit ? "" : " not"));
}

Result<void> check_features(const Header& header, std::span<const std::byte> cluster0,
                            uint64_t extensions_begin, uint64_t extensions_end,
                            const HeaderParseOptions& options) {
  const uint64_t unknown = header.incompatible_features & ~kIncompatKnown;
  if (unknown != 0) {
    return Error(ENOTSUP,
                 "Unsupported qcow2 feature(s): " +
                     describe_features(cluster0, extensions_begin, extensions_end, unknown));
  }
  const bool may_be_corrupt = options.for_check || options.incomplete_size.has_value();
  if (header.is_corrupt() && options.writable && !may_be_corrupt) {
    return Error(EACCES, "qcow2: Image is corrupt; cannot be opened read/write");
  }
  if (header.has_extended_l2() && header.subcluster_size() < kSectorSize) {
    return Error(EINVAL, fmt::format("Unsupported subcluster size: {}", header.subcluster_size()));
  }
  if (header.refcount_order > kMaxRefcountOrder) {
    return Error(EINVAL, "Reference count entry width too large; may not exceed 64 bits");
  }
  return ok();
}

Result<void> check_tables(const Header& header, const HeaderParseOptions& options) {
  if (header.refcount_table_clusters == 0 && !options.for_check) {
    return Error(EINVAL, "Image does not contain a reference count table");
  }
  RETURN_IF_ERROR(check_table(header.refcount_table_offset, header.refcount_table_clusters,
                              header.cluster_size(), header.cluster_bits,
                              {kMaxRefcountTableBytes, "Reference count table"}));
  if (!options.for_check) {
    RETURN_IF_ERROR(check_table(header.snapshot_table_offset, header.snapshot_count,
                                sizeof(RawSnapshot), header.cluster_bits,
                                {kMaxSnapshots * sizeof(RawSnapshot), "Snapshot table"}));
  }
  RETURN_IF_ERROR(check_table(header.l1_table_offset, header.l1_entries, kTableEntryBytes,
                              header.cluster_bits, {kMaxL1Bytes, "Active L1 table"}));
  if (header.l1_entries_for_disk() > std::numeric_limits<int32_t>::max()) {
    return Error(EFBIG, "Image is too big");
  }
  if (header.l1_entries < header.l1_entries_for_disk()) {
    return Error(EINVAL, "L1 table is too small");
  }
  return ok();
}

Result<std::string> parse_backing_name(const RawHeader& raw, std::span<const std::byte> cluster0,
                                       uint64_t cluster_size) {
  const uint64_t offset = raw.backing_file_offset.get();
  if (offset == 0) return std::string();
  const uint64_t length = raw.backing_file_size.get();
  if (length > std::min<uint64_t>(kMaxBackingNameBytes, cluster_size - offset)) {
    return Error(EINVAL, "Backing file name too long");
  }
  const auto present = cluster0.subspan(std::min<uint64_t>(offset, cluster0.size()));
  const size_t usable = static_cast<size_t>(std::min<uint64_t>(length, present.size()));
  std::string name(usable, '\0');
  if (usable != 0) std::memcpy(name.data(), present.data(), usable);
  name.resize(std::min(name.find('\0'), name.size()));
  return name;
}

Result<void> check_crypto(Header& header, uint32_t method) {
  if (method > static_cast<uint32_t>(CryptMethod::kLuks)) {
    return Error(EINVAL,
                 fmt::format("Unsupported encryption method {}", static_cast<int32_t>(method)));
  }
  header.crypt_method = static_cast<CryptMethod>(method);
  return ok();
}

/// What stands in the rest of cluster 0: extensions and names.
Result<void> take_variable_part(Header& header, const RawHeader& raw,
                                std::span<const std::byte> cluster0, uint64_t extensions_begin,
                                uint64_t extensions_end, const HeaderParseOptions& options) {
  const ExtensionContext context{header.cluster_bits, static_cast<uint32_t>(header.crypt_method),
                                 (header.autoclear_features & kAutoclearBitmaps) != 0};
  ASSIGN_OR_RETURN(header.extensions,
                   parse_extensions(cluster0, extensions_begin, extensions_end, context));
  if (header.is_data_file_raw() && !header.has_data_file() && !options.metadata_only) {
    return Error(EINVAL, "data-file-raw requires a data file");
  }
  if (header.crypt_method == CryptMethod::kLuks && !header.extensions.crypto &&
      !options.metadata_only) {
    return Error(EINVAL, "Missing CRYPTO header for crypt method 2");
  }
  ASSIGN_OR_RETURN(header.backing_file, parse_backing_name(raw, cluster0, header.cluster_size()));
  return ok();
}

}  // namespace

Result<Header> Header::parse(std::span<const std::byte> cluster0,
                             const HeaderParseOptions& options) {
  const auto raw = load_struct<RawHeader>(cluster0);
  Header header;
  RETURN_IF_ERROR(take_basics(header, raw, options));
  cluster0 = cluster0.first(std::min<uint64_t>(cluster0.size(), header.cluster_size()));
  const uint64_t header_length = header.version >= 3 ? raw.header_length.get() : kV2HeaderBytes;
  const uint64_t backing_offset = raw.backing_file_offset.get();
  const uint64_t extensions_end = backing_offset != 0 ? backing_offset : header.cluster_size();

  const bool has_compression_type = header_length > offsetof(RawHeader, compression_type);
  RETURN_IF_ERROR(check_compression(header, has_compression_type ? raw.compression_type : 0));
  RETURN_IF_ERROR(check_features(header, cluster0, header_length, extensions_end, options));
  RETURN_IF_ERROR(check_tables(header, options));
  RETURN_IF_ERROR(check_crypto(header, raw.crypt_method.get()));
  RETURN_IF_ERROR(
      take_variable_part(header, raw, cluster0, header_length, extensions_end, options));

  if (header_length > kV3HeaderBytes) {
    header.unknown_fields.resize(header_length - kV3HeaderBytes);
    const auto present = cluster0.subspan(std::min<uint64_t>(kV3HeaderBytes, cluster0.size()));
    const auto usable = present.first(std::min(present.size(), header.unknown_fields.size()));
    std::ranges::copy(usable, header.unknown_fields.begin());
  }
  return header;
}

Result<std::vector<std::byte>> Header::serialize() const {
  const bool is_v3 = version >= 3;
  RawHeader raw{};
  raw.magic = kMagic;
  raw.version = version;
  raw.cluster_bits = cluster_bits;
  raw.size = is_incomplete ? 0 : virtual_size;
  raw.crypt_method = static_cast<uint32_t>(crypt_method);
  raw.l1_size = l1_entries;
  raw.l1_table_offset = l1_table_offset.bytes();
  raw.refcount_table_offset = refcount_table_offset.bytes();
  raw.refcount_table_clusters = refcount_table_clusters;
  raw.nb_snapshots = snapshot_count;
  raw.snapshots_offset = snapshot_table_offset.bytes();
  raw.incompatible_features = incompatible_features;
  raw.compatible_features = compatible_features;
  raw.autoclear_features = autoclear_features;
  raw.refcount_order = refcount_order;
  raw.header_length = static_cast<uint32_t>(kV3HeaderBytes + unknown_fields.size());
  raw.compression_type = static_cast<uint8_t>(compression);

  std::vector<std::byte> cluster(is_v3 ? kV3HeaderBytes : kV2HeaderBytes);
  if (is_v3) cluster.insert(cluster.end(), unknown_fields.begin(), unknown_fields.end());
  append_extensions(cluster, extensions, is_v3 && cluster_size() > kLargestClusterWithoutNames);
  if (!backing_file.empty()) {
    raw.backing_file_offset = cluster.size();
    raw.backing_file_size = static_cast<uint32_t>(backing_file.size());
    const auto name = std::as_bytes(std::span(backing_file));
    cluster.insert(cluster.end(), name.begin(), name.end());
  }
  if (cluster.size() > cluster_size()) return Error::from_errno(ENOSPC);
  std::memcpy(cluster.data(), &raw, is_v3 ? kV3HeaderBytes : kV2HeaderBytes);
  cluster.resize(cluster_size());
  return cluster;
}

bool probe(std::span<const std::byte> head) {
  const auto raw = load_struct<RawHeader>(head);
  return raw.magic.get() == kMagic && raw.version.get() >= 2;
}

Task<Result<Header>> read_header(File& file, HeaderParseOptions options) {
  std::vector<std::byte> head(sizeof(RawHeader));
  CO_ASSIGN_OR_RETURN(const size_t head_bytes, co_await file.read(0, head));
  head.resize(head_bytes);
  const uint32_t cluster_bits = load_struct<RawHeader>(head).cluster_bits.get();
  if (cluster_bits < kMinClusterBits || cluster_bits > kMaxClusterBits) {
    co_return Header::parse(head, options);
  }
  std::vector<std::byte> cluster0(size_t{1} << cluster_bits);
  CO_ASSIGN_OR_RETURN(const size_t bytes, co_await file.read(0, cluster0));
  cluster0.resize(bytes);
  co_return Header::parse(cluster0, options);
}

}  // namespace imgconv::qcow2
