#include "formats/qcow2/mapping.h"

#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "formats/qcow2/corruption.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// QEMU loads L2 tables in pieces of at most this (its default l2-cache-entry-size).
constexpr uint64_t kSliceBytes = 4096;

bool has_host_cluster(SubclusterType type) {
  return type == SubclusterType::kNormal || type == SubclusterType::kZeroAllocated ||
         type == SubclusterType::kUnallocatedAllocated;
}

ExtentKind kind_of(SubclusterType type) {
  switch (type) {
    case SubclusterType::kNormal:
      return ExtentKind::kData;
    case SubclusterType::kCompressed:
      return ExtentKind::kCompressed;
    case SubclusterType::kZeroPlain:
    case SubclusterType::kZeroAllocated:
      return ExtentKind::kZero;
    case SubclusterType::kUnallocated:
    case SubclusterType::kUnallocatedAllocated:
    case SubclusterType::kInvalid:
      break;
  }
  return ExtentKind::kUnallocated;
}

/// Walks one L2 page; `index` counts its entries.
class PageWalk {
 public:
  PageWalk(const MapContext& context, const L2Page& page)
      : context_(context), page_(page), format_(context.header.l2_format()) {}

  Result<Extent> extent_at(uint64_t guest_offset, uint64_t guest_end) const;

 private:
  Result<void> check_first(uint64_t index, L2Entry entry, SubclusterType type) const;
  Extent compressed_extent(uint64_t guest_offset, uint64_t guest_end, L2Entry entry) const;
  uint64_t standard_run_entries(uint64_t index, uint64_t limit, L2Entry first,
                                SubclusterType type) const;
  Result<uint64_t> extended_run_subclusters(uint64_t index, uint64_t limit, L2Entry first,
                                            SubclusterType type, unsigned subcluster) const;
  unsigned same_type_subclusters(L2Entry entry, SubclusterType type, unsigned from) const;
  Error invalid_entry(uint64_t index) const;
  uint64_t guest_offset_of(uint64_t index) const {
    return (page_.first_guest_cluster + index) << format_.cluster_bits;
  }
  uint64_t table_offset() const { return page_.page->host_offset; }

  const MapContext& context_;
  const L2Page& page_;
  const L2Format format_;
};

Error PageWalk::invalid_entry(uint64_t index) const {
  return corruption(fmt::format("Invalid cluster entry found  (L2 offset: {}, L2 index: {})",
                                hex(table_offset()), hex(index)));
}

Result<void> PageWalk::check_first(uint64_t index, L2Entry entry, SubclusterType type) const {
  const Header& header = context_.header;
  const bool is_zero = type == SubclusterType::kZeroPlain || type == SubclusterType::kZeroAllocated;
  if (header.version < 3 && is_zero) {
    return corruption(
        fmt::format("Zero cluster entry found in pre-v3 image (L2 offset: {}, L2 index: {})",
                    hex(table_offset()), hex(index)));
  }
  if (type == SubclusterType::kInvalid) return invalid_entry(index);
  if (type == SubclusterType::kCompressed && header.has_data_file()) {
    return corruption(
        fmt::format("Compressed cluster entry found in image with external data file (L2 offset: "
                    "{}, L2 index: {})",
                    hex(table_offset()), hex(index)));
  }
  if (!has_host_cluster(type)) return ok();
  const uint64_t host_offset = entry.host_offset().bytes();
  if (!is_aligned(host_offset, header.cluster_size())) {
    return corruption(
        fmt::format("Cluster allocation offset {} unaligned (L2 offset: {}, L2 index: {})",
                    hex(host_offset), hex(table_offset()), hex(index)));
  }
  if (header.has_data_file() && host_offset != guest_offset_of(index)) {
    return corruption(fmt::format(
        "External data file host cluster offset {} does not match guest cluster offset: {}, "
        "L2 index: {})",
        hex(host_offset), hex(guest_offset_of(index)), hex(index)));
  }
  return ok();
}

Extent PageWalk::compressed_extent(uint64_t guest_offset, uint64_t guest_end, L2Entry entry) const {
  const uint64_t cluster_size = context_.header.cluster_size();
  const CompressedLocation location = entry.compressed_location(format_.cluster_bits);
  Extent extent;
  extent.guest_offset = guest_offset;
  extent.offset_in_cluster = guest_offset % cluster_size;
  extent.length = std::min(cluster_size - extent.offset_in_cluster, guest_end - guest_offset);
  extent.kind = ExtentKind::kCompressed;
  extent.host_offset = location.offset.bytes();
  extent.host_length = location.length;
  extent.codec = context_.header.compression;
  extent.cluster_size = cluster_size;
  extent.file = &context_.image_file;
  return extent;
}

uint64_t PageWalk::standard_run_entries(uint64_t index, uint64_t limit, L2Entry first,
                                        SubclusterType type) const {
  const bool is_placed = has_host_cluster(type);
  uint64_t host_offset = first.host_offset().bytes();
  uint64_t next = index + 1;
  for (; next < limit; ++next) {
    const L2Entry entry = page_.entry(next);
    if (entry.subcluster_type(format_, 0) != type) break;
    host_offset += uint64_t{1} << format_.cluster_bits;
    if (is_placed && entry.host_offset().bytes() != host_offset) break;
  }
  return next - index;
}

unsigned PageWalk::same_type_subclusters(L2Entry entry, SubclusterType type, unsigned from) const {
  const uint32_t allocated = entry.bitmap().allocated_mask();
  const uint32_t zero = entry.bitmap().zero_mask();
  uint32_t same = ~(allocated | zero);
  if (type == SubclusterType::kNormal) same = allocated;
  if (type == SubclusterType::kZeroPlain || type == SubclusterType::kZeroAllocated) same = zero;
  return std::min(static_cast<unsigned>(std::countr_one(same >> from)),
                  SubclusterBitmap::kSubclusters - from);
}

Result<uint64_t> PageWalk::extended_run_subclusters(uint64_t index, uint64_t limit, L2Entry first,
                                                    SubclusterType type,
                                                    unsigned subcluster) const {
  const bool is_placed = has_host_cluster(type);
  uint64_t host_offset = first.host_offset().bytes();
  uint64_t subclusters = same_type_subclusters(first, type, subcluster);
  bool reaches_end = subcluster + subclusters == SubclusterBitmap::kSubclusters;
  for (uint64_t next = index + 1; next < limit && reaches_end; ++next) {
    const L2Entry entry = page_.entry(next);
    const SubclusterType next_type = entry.subcluster_type(format_, 0);
    // QEMU looks at the entry behind a run too, and fails the run when it is damaged.
    if (next_type == SubclusterType::kInvalid) return invalid_entry(next);
    if (next_type != type) break;
    host_offset += uint64_t{1} << format_.cluster_bits;
    if (is_placed && entry.host_offset().bytes() != host_offset) break;
    const unsigned count = same_type_subclusters(entry, type, 0);
    subclusters += count;
    reaches_end = count == SubclusterBitmap::kSubclusters;
  }
  return subclusters;
}

Result<Extent> PageWalk::extent_at(uint64_t guest_offset, uint64_t guest_end) const {
  const Header& header = context_.header;
  const unsigned bits = format_.cluster_bits;
  const uint64_t index = (guest_offset >> bits) - page_.first_guest_cluster;
  const uint64_t slice_end = round_down(index, slice_entries(header)) + slice_entries(header);
  const uint64_t last_wanted = ((guest_end - 1) >> bits) - page_.first_guest_cluster;
  const uint64_t limit = std::min({slice_end, page_.entries, last_wanted + 1});

  const L2Entry entry = page_.entry(index);
  const uint64_t offset_in_cluster = guest_offset - guest_offset_of(index);
  const auto subcluster = header.has_extended_l2()
                              ? static_cast<unsigned>(offset_in_cluster / header.subcluster_size())
                              : 0;
  const SubclusterType type = entry.subcluster_type(format_, subcluster);
  RETURN_IF_ERROR(check_first(index, entry, type));
  if (type == SubclusterType::kCompressed) return compressed_extent(guest_offset, guest_end, entry);

  uint64_t run_bytes = 0;  // From the start of the first cluster.
  if (header.has_extended_l2()) {
    ASSIGN_OR_RETURN(const uint64_t subclusters,
                     extended_run_subclusters(index, limit, entry, type, subcluster));
    run_bytes = (subcluster + subclusters) * header.subcluster_size();
  } else {
    run_bytes = standard_run_entries(index, limit, entry, type) << bits;
  }
  Extent extent;
  extent.guest_offset = guest_offset;
  extent.length = std::min(guest_offset_of(index) + run_bytes, guest_end) - guest_offset;
  extent.kind = kind_of(type);
  if (has_host_cluster(type)) {
    extent.has_host_offset = true;
    extent.host_offset = entry.host_offset().bytes() + offset_in_cluster;
    extent.file = &context_.data_file;
    extent.cluster_size = header.cluster_size();
  }
  return extent;
}

}  // namespace

uint64_t slice_entries(const Header& header) {
  return std::min(header.cluster_size(), kSliceBytes) / header.l2_entry_bytes();
}

Result<void> append_extents(const MapContext& context, const L2Page& page, uint64_t guest_offset,
                            uint64_t guest_end, size_t max_extents, ExtentList& extents) {
  const PageWalk walk(context, page);
  const uint64_t page_end = page.end_guest_cluster() << context.header.cluster_bits;
  const uint64_t end = std::min(guest_end, page_end);
  while (guest_offset < end && extents.size() < max_extents) {
    ASSIGN_OR_RETURN(const Extent extent, walk.extent_at(guest_offset, guest_end));
    extents.push_back(extent);
    guest_offset = extent.guest_end();
  }
  return ok();
}

Extent unallocated_extent(const Header& header, uint64_t guest_offset, uint64_t guest_end) {
  const uint64_t slice_bytes = slice_entries(header) << header.cluster_bits;
  Extent extent;
  extent.guest_offset = guest_offset;
  const uint64_t slice_end = round_down(guest_offset, slice_bytes) + slice_bytes;
  extent.length = std::min(slice_end, guest_end) - guest_offset;
  return extent;
}

}  // namespace imgconv::qcow2
