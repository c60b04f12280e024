// Writer, part 3: making ranges read as zeros (QCOW2.md 4.1, "Zeroing").
#include <algorithm>

#include "formats/qcow2/writer.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

Task<Result<void>> Writer::write_zeroes(uint64_t guest_offset, uint64_t length, bool may_unmap) {
  const unsigned bits = header_.cluster_bits;
  const uint64_t guest_end = guest_offset + length;
  while (guest_offset < guest_end) {
    CO_RETURN_IF_ERROR(co_await free_much_released());
    const uint64_t start = round_down(guest_offset, cluster_size());
    const uint64_t next = start + cluster_size();
    // The end of the disk ends its last cluster, wherever that is.
    const bool reaches_end = guest_end >= next || guest_end == header_.guest_size();
    if (guest_offset == start && reaches_end) {
      CO_ASSIGN_OR_RETURN(guest_offset, co_await zero_clusters(guest_offset, guest_end, may_unmap));
      continue;
    }
    const ClusterPart part{start >> bits, guest_offset - start, std::min(guest_end, next) - start};
    CO_RETURN_IF_ERROR(co_await zero_part(part, may_unmap));
    guest_offset = std::min(guest_end, next);
  }
  co_return ok();
}

L2Entry Writer::zeroed_entry(L2Entry old, bool is_released) const {
  if (header_.has_extended_l2()) {
    return L2Entry(is_released ? 0 : old.raw(), SubclusterBitmap::all_zero());
  }
  if (header_.version < 3) return L2Entry();
  return L2Entry((is_released ? 0 : old.raw()) | kZeroBit);
}

Task<Result<uint64_t>> Writer::zero_clusters(uint64_t guest_offset, uint64_t guest_end,
                                             bool may_unmap) {
  const unsigned bits = header_.cluster_bits;
  const uint64_t first = guest_offset >> bits;
  const uint64_t table_end = round_down(first, tables_.l2_entries()) + tables_.l2_entries();
  // Whole clusters, or up to the end of the disk: then the last one counts as whole.
  const bool ends_disk = guest_end == header_.guest_size();
  uint64_t end_cluster = ends_disk ? clusters_for(guest_end, bits).value() : guest_end >> bits;
  end_cluster = std::min(end_cluster, table_end);

  const PendingClusters::Iterator pending = pending_.find_from(first);
  if (pending != pending_.end()) {
    const uint64_t pending_end = pending->first + pending->second.clusters;
    if (pending->first <= first) end_cluster = std::min(end_cluster, pending_end);
    if (pending->first > first) end_cluster = std::min(end_cluster, pending->first);
  }
  const uint64_t end = std::min(guest_end, end_cluster << bits);
  const bool is_pending = pending != pending_.end() && pending->first <= first;
  // v2 has no zero flag: only what has no backing image below may become unallocated instead.
  const bool needs_real_zeroes = is_pending || (header_.version < 3 && has_backing());
  if (needs_real_zeroes) {
    CO_RETURN_IF_ERROR(co_await write_real_zeroes(guest_offset, end - guest_offset));
    co_return end;
  }
  if (header_.is_data_file_raw()) {
    const ZeroFlags flags{may_unmap, false};
    CO_RETURN_IF_ERROR(co_await data_file_.write_zeroes(guest_offset, end - guest_offset, flags));
  }
  // Version 3 says "zero" even where nothing is allocated, as QEMU does.
  if (header_.version < 3 && !tables_.l1_entry(tables_.l1_index(first)).has_table()) co_return end;
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(first));
  end_cluster = std::min(end_cluster, page.end_guest_cluster());
  CO_ASSIGN_OR_RETURN(const uint64_t done,
                      co_await zero_in_page(page, first, end_cluster, may_unmap));
  co_return std::min(guest_end, done << bits);
}

Task<Result<uint64_t>> Writer::zero_in_page(const L2Page& page, uint64_t first,
                                            uint64_t end_cluster, bool may_unmap) {
  for (uint64_t cluster = first; cluster < end_cluster; ++cluster) {
    const uint64_t index = cluster - page.first_guest_cluster;
    const L2Entry old = page.entry(index);
    const bool has_space = old.is_compressed() || old.type(format_) == ClusterType::kNormal ||
                           old.type(format_) == ClusterType::kZeroAllocated;
    const bool is_released = has_space && (may_unmap || old.is_compressed());
    if (!is_released && zeroed_entry(old, false) == old) continue;
    if (header_.version < 3 && !is_released) {
      const uint64_t start = cluster << header_.cluster_bits;
      const uint64_t length = std::min(cluster_size(), header_.guest_size() - start);
      CO_RETURN_IF_ERROR(co_await write_real_zeroes(start, length));
      // The page may have left the cache meanwhile.
      co_return cluster + 1;
    }
    tables_.set_entry(page, index, zeroed_entry(old, is_released));
    if (is_released) {
      CO_RETURN_IF_ERROR(co_await release_cluster(old, may_unmap));
    }
  }
  // The place in a data file stays the cluster's, which may be written before the next flush.
  if (format_.has_data_file) CO_RETURN_IF_ERROR(co_await discard_given_up());
  co_return end_cluster;
}

Task<Result<bool>> Writer::is_rest_zero(const ClusterPart& part, L2Entry entry) {
  const Below source = below(entry, part.begin);
  if (source != Below::kBacking) co_return source == Below::kZeros;
  const uint64_t size = header_.subcluster_size();
  const uint64_t unit_begin = round_down(part.begin, size);
  const uint64_t start = part.guest_cluster << header_.cluster_bits;
  std::vector<std::byte> unit(size);
  const std::span<std::byte> head = std::span(unit).first(part.begin - unit_begin);
  const std::span<std::byte> tail = std::span(unit).subspan(part.end - unit_begin);
  CO_RETURN_IF_ERROR(co_await read_backing(start + unit_begin, head));
  CO_RETURN_IF_ERROR(co_await read_backing(start + part.end, tail));
  co_return std::ranges::all_of(unit, [](std::byte byte) { return byte == std::byte{0}; });
}

Task<Result<void>> Writer::zero_part(const ClusterPart& part, bool may_unmap) {
  const uint64_t start = part.guest_cluster << header_.cluster_bits;
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await tables_.page_of(part.guest_cluster));
  const L2Entry entry =
      page.page == nullptr ? L2Entry() : page.entry(part.guest_cluster - page.first_guest_cluster);
  if (page.page != nullptr) {
    CO_RETURN_IF_ERROR(
        check_entry(page, part.guest_cluster - page.first_guest_cluster, start + part.begin));
  }
  const bool is_pending = pending_.find(part.guest_cluster) != pending_.end();
  const bool has_flag = header_.version >= 3 && !header_.is_data_file_raw();
  if (has_flag && !is_pending && !entry.is_compressed()) {
    const uint64_t size = header_.subcluster_size();
    const uint64_t unit_end = round_down(part.begin, size) + size;
    if (part.end > unit_end) {
      CO_RETURN_IF_ERROR(co_await zero_units(part, may_unmap));
      co_return ok();
    }
    CO_ASSIGN_OR_RETURN(const bool is_zero, co_await is_rest_zero(part, entry));
    if (is_zero || part.end - part.begin == size) {
      CO_RETURN_IF_ERROR(co_await zero_unit(part, may_unmap));
      co_return ok();
    }
  }
  const bool is_zero = !is_pending && !header_.is_data_file_raw() && !entry.is_compressed() &&
                       below(entry, part.begin) == Below::kZeros &&
                       entry.type(format_) == ClusterType::kUnallocated;
  if (is_zero) co_return ok();
  CO_RETURN_IF_ERROR(co_await write_real_zeroes(start + part.begin, part.end - part.begin));
  co_return ok();
}

Task<Result<void>> Writer::zero_units(const ClusterPart& part, bool may_unmap) {
  const uint64_t size = header_.subcluster_size();
  for (uint64_t begin = part.begin; begin < part.end;) {
    const uint64_t end = std::min(part.end, round_down(begin, size) + size);
    const ClusterPart unit{part.guest_cluster, begin, end};
    CO_RETURN_IF_ERROR(co_await zero_part(unit, may_unmap));
    begin = end;
  }
  co_return ok();
}

Task<Result<void>> Writer::zero_unit(const ClusterPart& part, bool may_unmap) {
  if (header_.has_extended_l2()) {
    CO_RETURN_IF_ERROR(
        co_await zero_subclusters(part.guest_cluster, touched(part.begin, part.end)));
    co_return ok();
  }
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(part.guest_cluster));
  CO_RETURN_IF_ERROR(
      co_await zero_in_page(page, part.guest_cluster, part.guest_cluster + 1, may_unmap));
  co_return ok();
}

Task<Result<void>> Writer::zero_subclusters(uint64_t guest_cluster, uint32_t subclusters) {
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
  const uint64_t index = guest_cluster - page.first_guest_cluster;
  const L2Entry old = page.entry(index);
  tables_.set_entry(page, index, L2Entry(old.raw(), old.bitmap().with_zero(subclusters)));
  co_return ok();
}

Task<Result<void>> Writer::write_real_zeroes(uint64_t guest_offset, uint64_t length) {
  CO_ASSIGN_OR_RETURN(const std::vector<HostRun> runs, co_await reserve(guest_offset, length));
  for (const HostRun& run : runs) {
    CO_RETURN_IF_ERROR(co_await run.file->write_zeroes(run.host_offset, run.length, ZeroFlags()));
  }
  CO_RETURN_IF_ERROR(co_await link(guest_offset, length));
  co_return ok();
}

}  // namespace imgconv::qcow2
