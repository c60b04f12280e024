#include "formats/qcow2/repair_bitmaps.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/bitmap_table.h"
#include "formats/qcow2/check_bitmaps.h"
#include "formats/qcow2/check_references.h"
#include "formats/qcow2/header_update.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

bool is_inside(const CheckContext& context, HostOffset offset, uint64_t size) {
  const std::optional<uint64_t> end = checked_add(offset.bytes(), size);
  // The last cluster of a file may be cut.
  return end && *end <= round_up(context.file_length, context.header.cluster_size());
}

Task<Result<bool>> is_damaged(CheckContext& context, const BitmapInfo& bitmap) {
  const uint64_t table_bytes = bitmap.table_entries * kTableEntryBytes;
  if (!is_inside(context, bitmap.table_offset, table_bytes)) co_return true;
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                      co_await read_table(context, bitmap.table_offset, bitmap.table_entries));
  for (const uint64_t raw : table) {
    const auto entry = BitmapTableEntry::parse(raw, context.header.cluster_bits);
    if (!entry) co_return true;
    if (entry->has_data() && !is_inside(context, entry->offset(), context.header.cluster_size())) {
      co_return true;
    }
  }
  co_return false;
}

/// Until the header says otherwise again there are no valid bitmaps.
Task<Result<void>> invalidate(CheckContext& context, const Header& header) {
  std::array<std::byte, 8> bits;
  store_be(bits.data(), header.autoclear_features & ~kAutoclearBitmaps);
  CO_RETURN_IF_ERROR(
      co_await context.write(HostOffset(offsetof(RawHeader, autoclear_features)), bits));
  CO_RETURN_IF_ERROR(co_await context.flush());
  co_return ok();
}

/// The directory becomes shorter where it is: nothing can be allocated before the refcounts are
/// right.
Task<Result<void>> replace_directory(CheckContext& context, Header& header,
                                     std::span<const BitmapInfo> bitmaps) {
  CO_RETURN_IF_ERROR(co_await invalidate(context, header));
  std::optional<BitmapsExtension>& extension = header.extensions.bitmaps;
  if (bitmaps.empty()) {
    extension.reset();
    header.autoclear_features &= ~kAutoclearBitmaps;
  } else {
    const std::vector<std::byte> directory = serialize_bitmap_directory(bitmaps);
    extension->bitmap_count = static_cast<uint32_t>(bitmaps.size());
    extension->directory_size = directory.size();
    CO_RETURN_IF_ERROR(co_await context.write(extension->directory_offset, directory));
    CO_RETURN_IF_ERROR(co_await context.flush());
  }
  CO_RETURN_IF_ERROR(co_await update_header(context.file(), header));
  co_return ok();
}

}  // namespace

Task<Result<uint64_t>> remove_damaged_bitmaps(CheckContext& context, Header& header) {
  if (!header.extensions.bitmaps) co_return 0;
  auto bitmaps = co_await read_bitmap_directory(context.file(), header);
  // A directory that cannot be read is met again when references are counted.
  if (!bitmaps || has_too_large_tables(*bitmaps)) co_return 0;
  std::vector<BitmapInfo> sound;
  for (BitmapInfo& bitmap : *bitmaps) {
    CO_ASSIGN_OR_RETURN(const bool is_lost, co_await is_damaged(context, bitmap));
    if (is_lost) {
      context.say(
          fmt::format("Repairing bitmap '{}': its table is damaged, it is removed", bitmap.name));
    } else {
      sound.push_back(std::move(bitmap));
    }
  }
  const uint64_t removed = bitmaps->size() - sound.size();
  if (removed != 0) CO_RETURN_IF_ERROR(co_await replace_directory(context, header, sound));
  co_return removed;
}

}  // namespace imgconv::qcow2
