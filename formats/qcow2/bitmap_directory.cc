#include "formats/qcow2/bitmap_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string_view>
#include <unordered_set>

#include "formats/byteorder.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// QCOW2.md 9.
constexpr uint32_t kFlagInUse = 1;
constexpr uint32_t kFlagAuto = 2;
constexpr uint32_t kKnownFlags = kFlagInUse | kFlagAuto;
constexpr uint8_t kDirtyTrackingType = 1;
constexpr unsigned kMinGranularityBits = 9;
constexpr unsigned kMaxGranularityBits = 31;
constexpr uint32_t kMaxTableEntries = 0x8000000;
constexpr uint64_t kMaxBitmapBytes = 512 * kMiB;
constexpr uint64_t kMaxNameBytes = 1023;

uint64_t bytes_of_bits(const Header& header, unsigned granularity_bits) {
  return div_round_up(div_round_up(header.guest_size(), uint64_t{1} << granularity_bits), 8);
}

bool is_valid(const RawBitmapEntry& raw, const Header& header) {
  const uint32_t entries = raw.table_entries.get();
  const unsigned granularity = raw.granularity_bits;
  const uint64_t table_offset = raw.table_offset.get();
  if (entries == 0 || entries > kMaxTableEntries) return false;
  if (table_offset == 0 || !is_aligned(table_offset, header.cluster_size())) return false;
  if (granularity < kMinGranularityBits || granularity > kMaxGranularityBits) return false;
  if ((raw.flags.get() & ~kKnownFlags) != 0 || raw.type != kDirtyTrackingType) return false;
  const uint64_t covered_bytes = uint64_t{entries} << header.cluster_bits;
  if (covered_bytes > kMaxBitmapBytes) return false;
  // A bitmap in use may be of any size: it was not adapted when the image was resized.
  if ((raw.flags.get() & kFlagInUse) != 0) return true;
  const uint64_t bytes = bytes_of_bits(header, granularity);
  return clusters_for(bytes, header.cluster_bits).value() == entries;
}

uint64_t entry_size(const BitmapInfo& bitmap) {
  return round_up(sizeof(RawBitmapEntry) + bitmap.name.size(), kTableEntryBytes);
}

Result<void> check_names(std::span<const BitmapInfo> bitmaps) {
  std::unordered_set<std::string_view> names;
  for (const BitmapInfo& bitmap : bitmaps) {
    if (!names.insert(bitmap.name).second) {
      return Error(EINVAL, "Bitmap already exists: " + bitmap.name);
    }
  }
  return ok();
}

}  // namespace

Result<std::vector<BitmapInfo>> parse_bitmap_directory(std::span<const std::byte> directory,
                                                       const Header& header) {
  const uint32_t expected = header.extensions.bitmaps->bitmap_count;
  std::vector<BitmapInfo> bitmaps;
  while (!directory.empty()) {
    if (directory.size() < sizeof(RawBitmapEntry)) return Error(EINVAL, "Broken bitmap directory");
    if (bitmaps.size() == expected) {
      return Error(EINVAL, "More bitmaps found than specified in header extension");
    }
    const RawBitmapEntry raw = load_struct<RawBitmapEntry>(directory);
    const uint64_t name_length = raw.name_length.get();
    const uint64_t size =
        round_up(sizeof(RawBitmapEntry) + uint64_t{raw.extra_data_size.get()} + name_length,
                 kTableEntryBytes);
    if (size > directory.size()) return Error(EINVAL, "Broken bitmap directory");
    if (raw.extra_data_size.get() != 0) return Error(EINVAL, "Bitmap extra data is not supported");
    BitmapInfo info;
    info.name.assign(reinterpret_cast<const char*>(directory.data()) + sizeof(RawBitmapEntry),
                     name_length);
    if (name_length == 0 || name_length > kMaxNameBytes || !is_valid(raw, header)) {
      return Error(EINVAL, "Bitmap '" + info.name + "' doesn't satisfy the constraints");
    }
    info.granularity = uint64_t{1} << raw.granularity_bits;
    info.is_in_use = (raw.flags.get() & kFlagInUse) != 0;
    info.is_auto = (raw.flags.get() & kFlagAuto) != 0;
    info.table_offset = HostOffset(raw.table_offset.get());
    info.table_entries = raw.table_entries.get();
    bitmaps.push_back(std::move(info));
    directory = directory.subspan(size);
  }
  if (bitmaps.size() != expected) {
    return Error(EINVAL, "Less bitmaps found than specified in header extension");
  }
  RETURN_IF_ERROR(check_names(bitmaps));
  return bitmaps;
}

uint64_t bitmap_directory_size(std::span<const BitmapInfo> bitmaps) {
  uint64_t size = 0;
  for (const BitmapInfo& bitmap : bitmaps) size += entry_size(bitmap);
  return size;
}

std::vector<std::byte> serialize_bitmap_directory(std::span<const BitmapInfo> bitmaps) {
  std::vector<std::byte> directory(bitmap_directory_size(bitmaps));
  std::span<std::byte> rest(directory);
  for (const BitmapInfo& bitmap : bitmaps) {
    RawBitmapEntry raw{};
    raw.table_offset = bitmap.table_offset.bytes();
    raw.table_entries = bitmap.table_entries;
    raw.flags = (bitmap.is_in_use ? kFlagInUse : 0) | (bitmap.is_auto ? kFlagAuto : 0);
    raw.type = kDirtyTrackingType;
    raw.granularity_bits = static_cast<uint8_t>(std::countr_zero(bitmap.granularity));
    raw.name_length = static_cast<uint16_t>(bitmap.name.size());
    store_struct(rest, raw);
    const auto name = std::as_bytes(std::span(bitmap.name));
    std::ranges::copy(name, rest.subspan(sizeof(RawBitmapEntry)).begin());
    rest = rest.subspan(entry_size(bitmap));
  }
  return directory;
}

Result<void> check_bitmap_constraints(const BitmapInfo& bitmap, const Header& header) {
  constexpr uint64_t kMaxGranularity = uint64_t{1} << kMaxGranularityBits;
  constexpr uint64_t kMinGranularity = uint64_t{1} << kMinGranularityBits;
  if (bitmap.granularity > kMaxGranularity) {
    return Error(EINVAL, fmt::format("Granularity exceeds maximum ({} bytes)", kMaxGranularity));
  }
  if (bitmap.granularity < kMinGranularity) {
    return Error(EINVAL, fmt::format("Granularity is under minimum ({} bytes)", kMinGranularity));
  }
  const auto granularity_bits = static_cast<unsigned>(std::countr_zero(bitmap.granularity));
  const uint64_t bytes = bytes_of_bits(header, granularity_bits);
  const uint64_t table_limit = uint64_t{kMaxTableEntries} << header.cluster_bits;
  if (round_up(bytes, header.cluster_size()) > std::min(kMaxBitmapBytes, table_limit)) {
    return Error(EINVAL, "Too much space will be occupied by the bitmap. Use larger granularity");
  }
  // A table without entries is not valid.
  if (bytes == 0) return Error(EINVAL, "There is nothing to record on a disk of size 0");
  if (bitmap.name.size() > kMaxNameBytes) {
    return Error(EINVAL, fmt::format("Name length exceeds maximum ({} characters)", kMaxNameBytes));
  }
  return ok();
}

Task<Result<std::vector<BitmapInfo>>> read_bitmap_directory(File& file, const Header& header) {
  if (!header.extensions.bitmaps) co_return std::vector<BitmapInfo>();
  const BitmapsExtension& extension = *header.extensions.bitmaps;
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  // What is not in the file cannot be a valid directory, so the file bounds what is allocated.
  if (extension.directory_size > std::min(kMaxBitmapDirectoryBytes, stat.length)) {
    co_return Error(EINVAL, "Broken bitmap directory");
  }
  std::vector<std::byte> directory(extension.directory_size);
  CO_ASSIGN_OR_RETURN(const size_t filled,
                      co_await file.read(extension.directory_offset.bytes(), directory));
  if (filled < directory.size()) co_return Error(EINVAL, "Broken bitmap directory");
  CO_ASSIGN_OR_RETURN(std::vector<BitmapInfo> bitmaps, parse_bitmap_directory(directory, header));
  co_return bitmaps;
}

}  // namespace imgconv::qcow2
