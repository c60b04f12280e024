#include "formats/qcow2/check_bitmaps.h"

#include <cerrno>
#include <vector>

#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/check_references.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Bits of a bitmap table entry that must be 0 (QCOW2.md 9).
constexpr uint64_t kTableReservedBits = 0xff000000000001fe;
/// Without data: all bits of the cluster are 1. With data it must be 0.
constexpr uint64_t kAllOnesBit = 1;

/// Ours, of all bitmaps together: tables of 1 GiB. A hostile directory has 65535 of 8 MiB, all at
/// the same place.
constexpr uint64_t kMaxTableEntries = uint64_t{1} << 27;

bool is_valid_entry(uint64_t entry, unsigned cluster_bits) {
  if ((entry & kTableReservedBits) != 0) return false;
  const HostOffset data(entry & kEntryOffsetMask);
  if (data.bytes() == 0) return true;
  return (entry & kAllOnesBit) == 0 && is_cluster_aligned(data, cluster_bits);
}

Task<Result<void>> count_bitmap(CheckContext& context, HostOffset table_offset, uint64_t entries) {
  context.add_references(table_offset, entries * kTableEntryBytes);
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                      co_await read_table(context, table_offset, entries));
  for (const uint64_t entry : table) {
    if (!is_valid_entry(entry, context.header.cluster_bits)) co_return Error(EINVAL, "");
    const HostOffset data(entry & kEntryOffsetMask);
    if (data.bytes() != 0) context.add_references(data, context.header.cluster_size());
  }
  co_return ok();
}

}  // namespace

Task<Result<void>> count_bitmaps(CheckContext& context) {
  const auto& extension = context.header.extensions.bitmaps;
  if (!extension) co_return ok();
  context.add_references(extension->directory_offset, extension->directory_size);
  auto bitmaps = co_await read_bitmap_directory(context.file(), context.header);
  if (!bitmaps) co_return Error(EINVAL, "");
  uint64_t entries = 0;
  for (const BitmapInfo& bitmap : *bitmaps) {
    entries += bitmap.table_entries;
    if (entries > kMaxTableEntries) co_return Error(EFBIG, "");
    CO_RETURN_IF_ERROR(co_await count_bitmap(context, bitmap.table_offset, bitmap.table_entries));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
