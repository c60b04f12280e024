#include "formats/qcow2/metadata.h"

#include <array>
#include <cassert>
#include <vector>

#include "formats/qcow2/writer.h"

namespace imgconv::qcow2 {

Task<Result<void>> barrier(const Metadata& metadata) {
  CO_RETURN_IF_ERROR(co_await metadata.writer.barrier());
  co_return ok();
}

Task<Result<void>> flush_refcounts(const Metadata& metadata) {
  CO_RETURN_IF_ERROR(co_await metadata.allocator.flush());
  CO_RETURN_IF_ERROR(co_await barrier(metadata));
  co_return ok();
}

Task<Result<HostClusters>> write_new_l1(const Metadata& metadata, std::span<const L1Entry> l1,
                                        uint64_t entries) {
  assert(entries >= l1.size());
  const uint64_t bytes = entries * kTableEntryBytes;
  if (bytes == 0) co_return HostClusters{};
  const uint64_t clusters = clusters_for(bytes, metadata.header.cluster_bits).value();
  CO_ASSIGN_OR_RETURN(const HostClusters place,
                      co_await metadata.allocator.allocate_contiguous(clusters));
  CO_RETURN_IF_ERROR(co_await flush_refcounts(metadata));
  std::vector<std::byte> table(bytes);
  for (size_t i = 0; i < l1.size(); ++i) store_be(&table[i * kTableEntryBytes], l1[i].raw());
  CO_RETURN_IF_ERROR(
      co_await metadata.io.write_one(place.first << metadata.header.cluster_bits, table));
  CO_RETURN_IF_ERROR(co_await barrier(metadata));
  co_return place;
}

Task<Result<void>> write_disk_fields(const Metadata& metadata) {
  const Header& header = metadata.header;
  constexpr size_t kBegin = offsetof(RawHeader, size);
  constexpr size_t kEnd = offsetof(RawHeader, refcount_table_offset);
  RawHeader raw{};
  raw.size = header.virtual_size;
  raw.crypt_method = static_cast<uint32_t>(header.crypt_method);
  raw.l1_size = header.l1_entries;
  raw.l1_table_offset = header.l1_table_offset.bytes();
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&raw, 1));
  CO_RETURN_IF_ERROR(co_await metadata.io.write_one(kBegin, bytes.subspan(kBegin, kEnd - kBegin)));
  CO_RETURN_IF_ERROR(co_await barrier(metadata));
  co_return ok();
}

Task<Result<void>> release_and_discard(const Metadata& metadata, L2Entry entry) {
  const unsigned bits = metadata.header.cluster_bits;
  const bool is_compressed = entry.is_compressed();
  const CompressedLocation place =
      is_compressed ? entry.compressed_location(bits)
                    : CompressedLocation{entry.host_offset(), uint64_t{1} << bits};
  if (metadata.header.has_data_file()) {
    // Nothing is counted there, and a place belongs to one guest cluster. The first one is at 0.
    const bool has_place = place.offset.bytes() != 0 || entry.is_copied();
    if (is_compressed || !has_place || !is_cluster_aligned(place.offset, bits)) co_return ok();
    const Result<void> ignored =
        co_await metadata.writer.data_file().discard(place.offset.bytes(), uint64_t{1} << bits);
    static_cast<void>(ignored);
    co_return ok();
  }
  if (place.offset.bytes() == 0) co_return ok();
  const uint64_t end = clusters_for((place.offset + place.length).bytes(), bits).value();
  for (uint64_t cluster = place.offset.bytes() >> bits; cluster < end; ++cluster) {
    if (!metadata.allocator.may_release({cluster, 1})) continue;
    CO_ASSIGN_OR_RETURN(const bool became_free,
                        co_await metadata.allocator.release_unused({cluster, 1}));
    if (!became_free) continue;
    const Result<void> ignored =
        co_await metadata.io.file().discard(cluster << bits, uint64_t{1} << bits);
    static_cast<void>(ignored);
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
