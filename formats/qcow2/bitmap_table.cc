#include "formats/qcow2/bitmap_table.h"

#include <cerrno>

#include "formats/byteorder.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"

namespace imgconv::qcow2 {

Result<BitmapTableEntry> BitmapTableEntry::parse(uint64_t raw, unsigned cluster_bits) {
  const HostOffset offset(raw & kEntryOffsetMask);
  const uint64_t rest = raw & ~kEntryOffsetMask;
  const uint64_t allowed = offset.bytes() == 0 ? kAllOnes : 0;
  if ((rest & ~allowed) != 0 || !is_cluster_aligned(offset, cluster_bits)) {
    return Error::from_errno(EINVAL);
  }
  return BitmapTableEntry(raw);
}

Task<Result<std::vector<BitmapTableEntry>>> read_bitmap_table(TableIo& io, HostOffset table_offset,
                                                              uint32_t entries,
                                                              unsigned cluster_bits) {
  std::vector<std::byte> bytes(entries * kTableEntryBytes);
  CO_RETURN_IF_ERROR(co_await io.read_one(table_offset.bytes(), bytes));
  std::vector<BitmapTableEntry> table(entries);
  for (size_t i = 0; i < table.size(); ++i) {
    const auto raw = load_be<uint64_t>(bytes.data() + i * kTableEntryBytes);
    CO_ASSIGN_OR_RETURN(table[i], BitmapTableEntry::parse(raw, cluster_bits));
  }
  co_return table;
}

}  // namespace imgconv::qcow2
