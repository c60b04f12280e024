#include "formats/qcow2/writer.h"

#include <algorithm>
#include <cassert>

#include <fmt/format.h>

#include "formats/qcow2/corruption.h"
#include "formats/qcow2/mapping.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

Writer::Writer(Header& header, TableIo& io, L2Tables& tables, File& data_file,
               Allocator::FileFacts file)
    : header_(header),
      io_(io),
      tables_(tables),
      data_file_(data_file),
      format_(header.l2_format()),
      refcounts_(header, io),
      allocator_(refcounts_, header.cluster_bits, file),
      is_ordered_(file.frees_late) {}

uint32_t Writer::touched(uint64_t begin, uint64_t end) const {
  const uint64_t size = header_.subcluster_size();
  const auto first = static_cast<unsigned>(begin / size);
  const auto last = static_cast<unsigned>((end - 1) / size);
  return SubclusterBitmap::range_mask(first, last - first + 1);
}

bool Writer::owns_host_cluster(L2Entry entry) const {
  const ClusterType type = entry.type(format_);
  return entry.is_copied() && (type == ClusterType::kNormal || type == ClusterType::kZeroAllocated);
}

uint32_t Writer::data_subclusters(L2Entry entry) const {
  if (entry.type(format_) != ClusterType::kNormal) return 0;
  return header_.has_extended_l2() ? entry.bitmap().allocated_mask() : 1;
}

Result<void> Writer::check_entry(const L2Page& page, uint64_t index, uint64_t guest_offset) const {
  const L2Entry entry = page.entry(index);
  const uint64_t guest_cluster = page.first_guest_cluster + index;
  if (entry.subcluster_type(format_, 0) == SubclusterType::kInvalid) {
    const L1Entry table = tables_.l1_entry(tables_.l1_index(guest_cluster));
    return corruption(fmt::format("Invalid cluster entry found (L2 offset: {}, L2 index: {})",
                                  hex(table.table_offset().bytes()),
                                  hex(guest_cluster % tables_.l2_entries())));
  }
  if (!owns_host_cluster(entry)) return ok();
  const uint64_t host_offset = entry.host_offset().bytes();
  if (!is_aligned(host_offset, cluster_size())) {
    const bool is_zero = entry.type(format_) == ClusterType::kZeroAllocated;
    return corruption(fmt::format("{} cluster offset {} unaligned (guest offset: {})",
                                  is_zero ? "Preallocated zero" : "Data", hex(host_offset),
                                  hex(guest_offset)));
  }
  const uint64_t guest_start = guest_cluster << header_.cluster_bits;
  if (format_.has_data_file && host_offset != guest_start) {
    return corruption(fmt::format(
        "External data file host cluster offset {} does not match guest cluster offset: {}, "
        "L2 index: {})",
        hex(host_offset), hex(guest_start), hex(guest_cluster % tables_.l2_entries())));
  }
  return ok();
}

Task<Result<L2Page>> Writer::page_for_write(uint64_t guest_cluster) {
  const uint64_t l1_index = tables_.l1_index(guest_cluster);
  const L1Entry old = tables_.l1_entry(l1_index);
  const uint64_t old_cluster = old.table_offset().bytes() >> header_.cluster_bits;
  const bool is_writable = old.has_table() && old.is_copied();
  if (is_writable && is_aligned(old.table_offset().bytes(), cluster_size())) {
    CO_RETURN_IF_ERROR(allocator_.check_unprotected({old_cluster, 1}, MetadataKind::kActiveL2));
  }
  if (!is_writable) {
    if (old.has_table()) {
      // Finds a damaged L1 entry before anything is allocated for its sake.
      CO_RETURN_IF_ERROR(co_await tables_.page_of(guest_cluster));
    }
    CO_ASSIGN_OR_RETURN(const AllocatedClusters added, co_await allocator_.allocate(1, "L2 table"));
    const HostOffset table_offset(added.clusters.first << header_.cluster_bits);
    note_end(table_offset.bytes() + cluster_size());
    if (old.has_table()) {
      CO_RETURN_IF_ERROR(co_await tables_.copy_table(l1_index, table_offset));
      allocator_.protected_clusters().remove_table(old_cluster);
      CO_RETURN_IF_ERROR(co_await allocator_.release({old_cluster, 1}));
    } else {
      CO_RETURN_IF_ERROR(
          co_await tables_.start_table(l1_index, table_offset, added.reads_as_zeros));
    }
  }
  if (const std::optional<L2Page> page = tables_.find_page(guest_cluster)) co_return *page;
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await tables_.page_of(guest_cluster));
  co_return page;
}

Task<Result<std::vector<HostRun>>> Writer::reserve(uint64_t guest_offset, uint64_t length) {
  CO_RETURN_IF_ERROR(co_await free_much_released());
  std::vector<HostRun> runs;
  const uint64_t guest_end = guest_offset + length;
  while (guest_offset < guest_end) {
    const PendingClusters::Iterator pending = pending_.find(guest_offset >> header_.cluster_bits);
    if (pending != pending_.end() && pending->second.payload != 0) {
      CO_RETURN_IF_ERROR(co_await link_early(pending->first));
    } else if (pending != pending_.end()) {
      CO_ASSIGN_OR_RETURN(guest_offset,
                          co_await reserve_pending(pending, guest_offset, guest_end, runs));
    } else {
      CO_ASSIGN_OR_RETURN(guest_offset, co_await reserve_unlinked(guest_offset, guest_end, runs));
    }
  }
  co_return runs;
}

void Writer::append_run(std::vector<HostRun>& runs, uint64_t guest_offset, uint64_t host_offset,
                        uint64_t length) const {
  if (!runs.empty()) {
    HostRun& last = runs.back();
    if (last.host_offset + last.length == host_offset) {
      last.length += length;
      return;
    }
  }
  runs.push_back({guest_offset, host_offset, length, &data_file_});
}

Task<Result<uint64_t>> Writer::reserve_pending(PendingClusters::Iterator run, uint64_t guest_offset,
                                               uint64_t guest_end, std::vector<HostRun>& runs) {
  const unsigned bits = header_.cluster_bits;
  const uint64_t guest_cluster = guest_offset >> bits;
  const uint64_t end_cluster =
      std::min(run->first + run->second.clusters, clusters_for(guest_end, bits).value());
  const uint64_t end = std::min(guest_end, end_cluster << bits);
  run = pending_.isolate(run, guest_cluster, end_cluster - guest_cluster, bits);
  PendingRun& pending = run->second;
  const uint64_t begin_in_cluster = guest_offset - (guest_cluster << bits);
  if (pending.subclusters != all_subclusters()) {
    // Runs of several clusters are always complete, so this is one cluster.
    const ClusterPart part{guest_cluster, begin_in_cluster,
                           begin_in_cluster + (end - guest_offset)};
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
    const L2Entry entry = page.entry(guest_cluster - page.first_guest_cluster);
    const uint32_t written = pending.subclusters | data_subclusters(entry);
    CO_RETURN_IF_ERROR(co_await fill_owned(part, written, entry, pending.host_offset));
    pending.subclusters |= touched(part.begin, part.end);
  }
  ++pending.holders;
  append_run(runs, guest_offset, pending.host_offset + begin_in_cluster, end - guest_offset);
  co_return end;
}

Task<Result<uint64_t>> Writer::reserve_unlinked(uint64_t guest_offset, uint64_t guest_end,
                                                std::vector<HostRun>& runs) {
  const unsigned bits = header_.cluster_bits;
  const uint64_t guest_cluster = guest_offset >> bits;
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
  const L2Entry entry = page.entry(guest_cluster - page.first_guest_cluster);
  CO_RETURN_IF_ERROR(check_entry(page, guest_cluster - page.first_guest_cluster, guest_offset));
  if (!owns_host_cluster(entry)) {
    CO_ASSIGN_OR_RETURN(const uint64_t end,
                        co_await reserve_new(guest_offset, guest_end, page, runs));
    co_return end;
  }
  const uint64_t cluster_start = guest_cluster << bits;
  const uint64_t end = std::min(guest_end, cluster_start + cluster_size());
  const ClusterPart part{guest_cluster, guest_offset - cluster_start, end - cluster_start};
  CO_RETURN_IF_ERROR(co_await reserve_in_place(part, entry, runs));
  co_return end;
}

Task<Result<void>> Writer::reserve_in_place(const ClusterPart& part, L2Entry entry,
                                            std::vector<HostRun>& runs) {
  const uint64_t host_offset = entry.host_offset().bytes();
  if (!format_.has_data_file) {
    CO_RETURN_IF_ERROR(allocator_.check_unprotected({host_offset >> header_.cluster_bits, 1}));
  }
  const uint32_t data = data_subclusters(entry);
  const uint32_t wanted = touched(part.begin, part.end);
  if ((wanted & ~data) != 0) {
    CO_RETURN_IF_ERROR(co_await fill_owned(part, data, entry, host_offset));
    pending_.add(part.guest_cluster, {1, host_offset, wanted, 1, false});
  }
  append_run(runs, (part.guest_cluster << header_.cluster_bits) + part.begin,
             host_offset + part.begin, part.end - part.begin);
  co_return ok();
}

uint64_t Writer::count_unowned(const L2Page& page, uint64_t guest_cluster, uint64_t end_cluster) {
  const PendingClusters::Iterator pending = pending_.find_from(guest_cluster);
  if (pending != pending_.end()) end_cluster = std::min(end_cluster, pending->first);
  const uint64_t slice = slice_entries(header_);
  end_cluster = std::min(end_cluster, round_down(guest_cluster, slice) + slice);
  uint64_t cluster = guest_cluster + 1;
  for (; cluster < end_cluster; ++cluster) {
    const uint64_t index = cluster - page.first_guest_cluster;
    if (owns_host_cluster(page.entry(index)) || !check_entry(page, index, 0)) break;
  }
  return cluster - guest_cluster;
}

Task<Result<uint64_t>> Writer::reserve_new(uint64_t guest_offset, uint64_t guest_end,
                                           const L2Page& page, std::vector<HostRun>& runs) {
  const unsigned bits = header_.cluster_bits;
  const uint64_t first = guest_offset >> bits;
  const uint64_t wanted = count_unowned(page, first, clusters_for(guest_end, bits).value());
  AllocatedClusters added{{first, wanted}, false};
  if (!format_.has_data_file) {
    CO_ASSIGN_OR_RETURN(added, co_await allocator_.allocate(wanted));
  }
  const uint64_t host_offset = added.clusters.first << bits;
  const uint64_t end_cluster = first + added.clusters.clusters;
  const uint64_t end = std::min(guest_end, end_cluster << bits);
  const bool is_new_space = !format_.has_data_file;

  // A partly covered cluster at either end stands for itself, those between are one run.
  uint64_t cluster = first;
  while (cluster < end_cluster) {
    const uint64_t start = cluster << bits;
    const uint64_t host = host_offset + ((cluster - first) << bits);
    const ClusterPart part{cluster, std::max(start, guest_offset) - start,
                           std::min(end, start + cluster_size()) - start};
    if (part.begin == 0 && part.end == cluster_size()) {
      const uint64_t whole = (end >> bits) - cluster;
      note_data_end(host + (whole << bits));
      pending_.add(cluster, {whole, host, all_subclusters(), 1, is_new_space});
      cluster += whole;
      continue;
    }
    const L2Entry old = page.entry(cluster - page.first_guest_cluster);
    const bool has_old_data = old.is_compressed() || data_subclusters(old) != 0;
    const uint32_t subclusters = has_old_data ? all_subclusters() : touched(part.begin, part.end);
    pending_.add(cluster, {1, host, subclusters, 1, is_new_space});
    CO_RETURN_IF_ERROR(co_await fill_around(part, old, host, added.reads_as_zeros));
    ++cluster;
  }
  append_run(runs, guest_offset, host_offset + guest_offset - (first << bits), end - guest_offset);
  co_return end;
}

Task<Result<void>> Writer::link(uint64_t guest_offset, uint64_t length) {
  const unsigned bits = header_.cluster_bits;
  uint64_t cluster = guest_offset >> bits;
  const uint64_t end_cluster = clusters_for(guest_offset + length, bits).value();
  for (;;) {
    PendingClusters::Iterator run = pending_.find_from(cluster);
    if (run == pending_.end() || run->first >= end_cluster) co_return ok();
    cluster = std::max(cluster, run->first);
    const uint64_t table_end = round_down(cluster, tables_.l2_entries()) + tables_.l2_entries();
    const uint64_t stop = std::min({run->first + run->second.clusters, end_cluster, table_end});
    run = pending_.isolate(run, cluster, stop - cluster, bits);
    if (run->second.payload != 0) {
      CO_RETURN_IF_ERROR(co_await link_compressed(cluster, run->second));
    } else {
      CO_RETURN_IF_ERROR(co_await link_run(cluster, stop - cluster, run->second));
    }
    pending_.drop_holder(run);
    cluster = stop;
  }
}

Task<Result<void>> Writer::link_run(uint64_t guest_cluster, uint64_t clusters,
                                    const PendingRun& run) {
  std::vector<L2Entry> replaced;
  uint64_t host_offset = run.host_offset;
  const uint64_t end = guest_cluster + clusters;
  while (guest_cluster < end) {
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
    for (; guest_cluster < std::min(end, page.end_guest_cluster()); ++guest_cluster) {
      const uint64_t index = guest_cluster - page.first_guest_cluster;
      const L2Entry old = page.entry(index);
      tables_.set_entry(page, index, linked_entry(old, run, host_offset));
      const bool moved = old.is_compressed() || old.host_offset().bytes() != host_offset;
      if (moved && old.type(format_) != ClusterType::kUnallocated) replaced.push_back(old);
      host_offset += cluster_size();
    }
  }
  for (const L2Entry old : replaced) {
    CO_RETURN_IF_ERROR(co_await release_cluster(old));
  }
  co_return ok();
}

L2Entry Writer::linked_entry(L2Entry old, const PendingRun& run, uint64_t host_offset) const {
  if (!header_.has_extended_l2()) return L2Entry::data(HostOffset(host_offset), Copied::kYes);
  const SubclusterBitmap bitmap = old.is_compressed() ? SubclusterBitmap() : old.bitmap();
  return L2Entry::data(HostOffset(host_offset), Copied::kYes,
                       bitmap.with_allocated(run.subclusters));
}

Task<Result<void>> Writer::release_cluster(L2Entry old, bool gives_up) {
  if (format_.has_data_file) {
    // Zeros of a raw one are in the file already.
    const bool is_place = is_aligned(old.host_offset().bytes(), cluster_size());
    if (gives_up && is_place && !header_.is_data_file_raw()) {
      note_given_up({old.host_offset().bytes() >> header_.cluster_bits, 1});
    }
    co_return ok();
  }
  if (!old.is_compressed() && old.host_offset().bytes() == 0) co_return ok();
  const CompressedLocation place = old.is_compressed()
                                       ? old.compressed_location(header_.cluster_bits)
                                       : CompressedLocation{old.host_offset(), cluster_size()};
  if (!old.is_compressed() && !is_aligned(place.offset.bytes(), cluster_size())) {
    const bool is_first = !std::exchange(has_remarked_, true);
    if (is_first && remark_) {
      remark_(corruption_line("Cannot free unaligned cluster " + hex(place.offset.bytes())));
    }
    co_return ok();
  }
  const uint64_t first = place.offset.bytes() >> header_.cluster_bits;
  const uint64_t end =
      clusters_for(place.offset.bytes() + place.length, header_.cluster_bits).value();
  if (!allocator_.may_release({first, end - first})) co_return ok();
  CO_RETURN_IF_ERROR(co_await allocator_.release({first, end - first}));
  if (gives_up) note_given_up({first, end - first});
  co_return ok();
}

}  // namespace imgconv::qcow2
