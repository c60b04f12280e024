#include "formats/qcow2/limits.h"

#include <fmt/format.h>

#include <cerrno>

#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Fixed fields, name and padding of an entry of the bitmap directory (QCOW2.md 9).
constexpr uint64_t kMaxBitmapEntryBytes = 24 + 1023 + 1;

/// A file may be this much longer than the pieces that its disk may be stored in.
constexpr uint64_t kClustersForEachExtent = 16;

Result<void> check(const char* what, const char* limit_name, uint64_t value, uint64_t limit) {
  if (value <= limit) return ok();
  return Error(EFBIG, fmt::format("{} is {}, more than an untrusted image may have (--limit {}={})",
                                  what, value, limit_name, limit));
}

uint64_t unknown_extension_bytes(const HeaderExtensions& extensions) {
  uint64_t bytes = 0;
  for (const UnknownExtension& extension : extensions.unknown) {
    bytes += sizeof(uint64_t) + extension.data.size();
  }
  return bytes;
}

}  // namespace

Result<void> check_limits(const Header& header, uint64_t file_length, const ImageLimits& limits) {
  if (!header.backing_file.empty()) {
    return Error(EPERM, "An untrusted image must not have a backing file");
  }
  if (header.has_data_file() || header.extensions.data_file) {
    return Error(EPERM, "An untrusted image must not have a data file");
  }
  RETURN_IF_ERROR(
      check("The virtual size", "virtual-size", header.virtual_size, limits.virtual_size));
  RETURN_IF_ERROR(check("The size of the L1 table", "l1", header.l1_entries * kTableEntryBytes,
                        limits.l1_bytes));
  RETURN_IF_ERROR(check("The size of the refcount table", "refcount-table",
                        header.refcount_table_clusters * header.cluster_size(),
                        limits.refcount_table_bytes < header.cluster_size()
                            ? header.cluster_size()
                            : limits.refcount_table_bytes));
  // check has two bytes of memory for each.
  const uint64_t clusters = clusters_for(file_length, header.cluster_bits).value();
  RETURN_IF_ERROR(check("A sixteenth of the clusters in the file", "extents",
                        div_round_up(clusters, kClustersForEachExtent), limits.extents));
  RETURN_IF_ERROR(
      check("The number of snapshots", "snapshots", header.snapshot_count, limits.snapshots));
  RETURN_IF_ERROR(check("The size of unknown header extensions", "extensions",
                        unknown_extension_bytes(header.extensions), limits.extension_bytes));
  if (const auto& bitmaps = header.extensions.bitmaps) {
    RETURN_IF_ERROR(
        check("The number of bitmaps", "bitmaps", bitmaps->bitmap_count, limits.bitmaps));
    RETURN_IF_ERROR(check("The number of bitmaps, from the size of their directory,", "bitmaps",
                          bitmaps->directory_size / kMaxBitmapEntryBytes, limits.bitmaps));
  }
  return ok();
}

Result<void> check_limits(std::span<const Snapshot> snapshots, const ImageLimits& limits) {
  for (const Snapshot& snapshot : snapshots) {
    RETURN_IF_ERROR(check("The size of a snapshot's L1 table", "l1",
                          snapshot.l1_entries * kTableEntryBytes, limits.l1_bytes));
    RETURN_IF_ERROR(check("The disk size of a snapshot", "virtual-size", snapshot.disk_size,
                          limits.virtual_size));
  }
  return ok();
}

}  // namespace imgconv::qcow2
