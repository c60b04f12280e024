// Writer, part 5: what resizing needs: space for what is added, an end to what is cut off.
#include <algorithm>

#include "formats/qcow2/writer.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

Task<Result<std::vector<HostRun>>> Writer::preallocate(uint64_t guest_offset, uint64_t guest_end,
                                                       PreallocateOptions options) {
  const unsigned bits = header_.cluster_bits;
  std::vector<HostRun> runs;
  const uint64_t first_whole = round_up(guest_offset, cluster_size());
  if (guest_offset < first_whole) {
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_offset >> bits));
    const L2Entry entry = page.entry((guest_offset >> bits) - page.first_guest_cluster);
    if (options.zeroes_head || !owns_host_cluster(entry)) {
      const uint64_t length = std::min(first_whole, guest_end) - guest_offset;
      CO_RETURN_IF_ERROR(co_await write_real_zeroes(guest_offset, length));
      CO_ASSIGN_OR_RETURN(runs, co_await reserve(guest_offset, length));
      CO_RETURN_IF_ERROR(co_await link(guest_offset, length));
    }
  }
  const uint64_t end_cluster = clusters_for(guest_end, bits).value();
  for (uint64_t cluster = first_whole >> bits; cluster < end_cluster;) {
    CO_ASSIGN_OR_RETURN(cluster, co_await preallocate_run(cluster, end_cluster, options, runs));
  }
  co_return runs;
}

Task<Result<uint64_t>> Writer::preallocate_run(uint64_t guest_cluster, uint64_t end_cluster,
                                               PreallocateOptions options,
                                               std::vector<HostRun>& runs) {
  const unsigned bits = header_.cluster_bits;
  CO_ASSIGN_OR_RETURN(const L2Page before, co_await page_for_write(guest_cluster));
  const L2Entry first = before.entry(guest_cluster - before.first_guest_cluster);
  CO_RETURN_IF_ERROR(
      check_entry(before, guest_cluster - before.first_guest_cluster, guest_cluster << bits));
  if (owns_host_cluster(first)) co_return guest_cluster + 1;
  // The subclusters behind the end of the disk need no space.
  const uint64_t rest =
      round_up(header_.guest_size() - (guest_cluster << bits), header_.subcluster_size());
  AllocatedClusters added{{guest_cluster, count_unowned(before, guest_cluster, end_cluster)}, true};
  if (!format_.has_data_file) {
    CO_ASSIGN_OR_RETURN(added, co_await allocator_.allocate(added.clusters.clusters));
    note_end((added.clusters.first << bits) + std::min(added.clusters.clusters << bits, rest));
    // Nobody writes there, and no table may show what the file does not have.
    if (is_ordered_) CO_RETURN_IF_ERROR(co_await extend_file());
  }
  const uint64_t host_offset = added.clusters.first << bits;
  const uint64_t length = added.clusters.clusters << bits;
  if (!added.reads_as_zeros && !options.shows_old_bytes) {
    CO_RETURN_IF_ERROR(co_await data_file_.write_zeroes(host_offset, length, ZeroFlags()));
  }
  append_run(runs, guest_cluster << bits, host_offset, std::min(length, rest));
  const SubclusterBitmap bitmap = header_.has_extended_l2() && options.fills_subclusters
                                      ? SubclusterBitmap::all_allocated()
                                      : SubclusterBitmap();
  CO_RETURN_IF_ERROR(co_await map_clusters(guest_cluster, added.clusters, bitmap));
  co_return guest_cluster + added.clusters.clusters;
}

Task<Result<void>> Writer::map_clusters(uint64_t guest_cluster, HostClusters space,
                                        SubclusterBitmap bitmap) {
  HostOffset host_offset(space.first << header_.cluster_bits);
  const uint64_t end = guest_cluster + space.clusters;
  std::vector<L2Entry> replaced;
  while (guest_cluster < end) {
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
    for (; guest_cluster < std::min(end, page.end_guest_cluster()); ++guest_cluster) {
      const uint64_t index = guest_cluster - page.first_guest_cluster;
      const L2Entry old = page.entry(index);
      tables_.set_entry(page, index, L2Entry::data(host_offset, Copied::kYes, bitmap));
      if (old.type(format_) != ClusterType::kUnallocated) replaced.push_back(old);
      host_offset = host_offset + cluster_size();
    }
  }
  for (const L2Entry old : replaced) {
    CO_RETURN_IF_ERROR(co_await release_cluster(old));
  }
  co_return ok();
}

Task<Result<std::vector<L2Entry>>> Writer::take_entries(uint64_t first, uint64_t end) {
  std::vector<L2Entry> taken;
  while (first < end) {
    if (!tables_.l1_entry(tables_.l1_index(first)).has_table()) co_return taken;
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(first));
    for (; first < std::min(end, page.end_guest_cluster()); ++first) {
      const uint64_t index = first - page.first_guest_cluster;
      const L2Entry old = page.entry(index);
      CO_RETURN_IF_ERROR(check_entry(page, index, first << header_.cluster_bits));
      if (old == L2Entry()) continue;
      tables_.set_entry(page, index, L2Entry());
      if (old.type(format_) != ClusterType::kUnallocated) taken.push_back(old);
    }
  }
  co_return taken;
}

}  // namespace imgconv::qcow2
