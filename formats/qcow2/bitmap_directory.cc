#include "formats/qcow2/bitmap_directory.h"

#include <algorithm>
#include <cerrno>

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
constexpr uint16_t kMaxNameBytes = 1023;
constexpr uint64_t kMaxDirectoryBytes = 64 * kMiB - kKiB;

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
  const uint64_t bits = div_round_up(header.guest_size(), uint64_t{1} << granularity);
  return clusters_for(div_round_up(bits, 8), header.cluster_bits).value() == entries;
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
  return bitmaps;
}

Task<Result<std::vector<BitmapInfo>>> read_bitmap_directory(File& file, const Header& header) {
  if (!header.extensions.bitmaps) co_return std::vector<BitmapInfo>();
  const BitmapsExtension& extension = *header.extensions.bitmaps;
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  // What is not in the file cannot be a valid directory, so the file bounds what is allocated.
  if (extension.directory_size > std::min(kMaxDirectoryBytes, stat.length)) {
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
