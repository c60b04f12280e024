#include "formats/qcow2/check_bitmaps.h"

#include <cerrno>
#include <vector>

#include "formats/qcow2/bitmap_table.h"
#include "formats/qcow2/check_references.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Ours, of all bitmaps together: tables of 1 GiB. A hostile directory has 65535 of 8 MiB, all at
/// the same place.
constexpr uint64_t kMaxTableEntries = uint64_t{1} << 27;

Task<Result<void>> count_bitmap(CheckContext& context, HostOffset table_offset, uint64_t entries) {
  context.add_references(table_offset, entries * kTableEntryBytes);
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                      co_await read_table(context, table_offset, entries));
  for (const uint64_t raw : table) {
    const auto entry = BitmapTableEntry::parse(raw, context.header.cluster_bits);
    if (!entry) co_return Error(EINVAL, "");
    if (entry->has_data()) context.add_references(entry->offset(), context.header.cluster_size());
  }
  co_return ok();
}

}  // namespace

bool has_too_large_tables(std::span<const BitmapInfo> bitmaps) {
  uint64_t entries = 0;
  for (const BitmapInfo& bitmap : bitmaps) entries += bitmap.table_entries;
  return entries > kMaxTableEntries;
}

Task<Result<void>> count_bitmaps(CheckContext& context) {
  const auto& extension = context.header.extensions.bitmaps;
  if (!extension) co_return ok();
  context.add_references(extension->directory_offset, extension->directory_size);
  auto bitmaps = co_await read_bitmap_directory(context.file(), context.header);
  if (!bitmaps) co_return Error(EINVAL, "");
  if (has_too_large_tables(*bitmaps)) co_return Error(EFBIG, "");
  for (const BitmapInfo& bitmap : *bitmaps) {
    CO_RETURN_IF_ERROR(co_await count_bitmap(context, bitmap.table_offset, bitmap.table_entries));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
