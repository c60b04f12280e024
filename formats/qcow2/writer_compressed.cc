// Writer, part 6: compressed clusters.
#include <algorithm>

#include "formats/qcow2/writer.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

Task<Result<HostRun>> Writer::reserve_compressed(uint64_t guest_offset, uint64_t payload) {
  if (format_.has_data_file) co_return Error::from_errno(ENOTSUP);
  CO_RETURN_IF_ERROR(co_await free_much_released());
  const uint64_t guest_cluster = guest_offset >> header_.cluster_bits;
  CO_RETURN_IF_ERROR(co_await link_early(guest_cluster));
  // The order of calls is the order in the file, also for the L2 table.
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
  CO_RETURN_IF_ERROR(check_entry(page, guest_cluster - page.first_guest_cluster, guest_offset));
  CO_ASSIGN_OR_RETURN(const uint64_t host_offset, co_await allocator_.allocate_bytes(payload));
  const unsigned offset_bits = std::min(56U, 62 - (header_.cluster_bits - 8));
  if (host_offset + payload > uint64_t{1} << offset_bits) co_return Error::from_errno(EFBIG);
  note_end(round_up(host_offset + payload, kSectorSize));
  pending_.add(guest_cluster, {1, host_offset, all_subclusters(), 1, true, payload});
  co_return HostRun{guest_offset, host_offset, payload, &data_file_};
}

Task<Result<void>> Writer::link_compressed(uint64_t guest_cluster, const PendingRun& run) {
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
  const uint64_t index = guest_cluster - page.first_guest_cluster;
  const L2Entry old = page.entry(index);
  tables_.set_entry(
      page, index,
      L2Entry::compressed(HostOffset(run.host_offset), run.payload, header_.cluster_bits));
  if (old.type(format_) != ClusterType::kUnallocated) {
    CO_RETURN_IF_ERROR(co_await release_cluster(old));
  }
  co_return ok();
}

Task<Result<void>> Writer::link_early(uint64_t guest_cluster) {
  const uint64_t guest_offset = guest_cluster << header_.cluster_bits;
  while (pending_.find(guest_cluster) != pending_.end()) {
    CO_RETURN_IF_ERROR(co_await link(guest_offset, cluster_size()));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
