// Writer, part 4: the way of metadata to the file, and the begin and the end of writing.
#include <utility>

#include "formats/qcow2/header_update.h"
#include "formats/qcow2/writer.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

void Writer::protect_metadata() {
  const unsigned bits = header_.cluster_bits;
  const auto protect = [this, bits](HostOffset offset, uint64_t bytes) {
    if (bytes == 0) return;
    allocator_.protect({offset.bytes() >> bits, clusters_for(bytes, bits).value()});
  };
  allocator_.protect({0, 1});
  allocator_.protect(refcounts_.table_range());
  protect(header_.l1_table_offset, header_.l1_entries * kTableEntryBytes);
  protect(header_.snapshot_table_offset, header_.snapshot_count * sizeof(RawSnapshot));
  if (const auto& bitmaps = header_.extensions.bitmaps) {
    protect(bitmaps->directory_offset, bitmaps->directory_size);
  }
  std::vector<uint64_t> tables = refcounts_.block_clusters();
  for (const L1Entry entry : tables_.l1()) {
    if (entry.has_table()) tables.push_back(entry.table_offset().bytes() >> bits);
  }
  allocator_.protect_tables(std::move(tables));
}

Task<Result<void>> Writer::reload_refcounts(uint64_t end_cluster) {
  CO_RETURN_IF_ERROR(co_await refcounts_.load_table());
  allocator_.restart(end_cluster);
  protect_metadata();
  co_return ok();
}

Task<Result<void>> Writer::start() {
  CO_RETURN_IF_ERROR(co_await refcounts_.load_table());
  tables_.set_write_back([this] { return write_l2_back(); });
  refcounts_.set_barrier([this] { return barrier(); });
  protect_metadata();
  CO_RETURN_IF_ERROR(co_await clear_unknown_features());
  co_return ok();
}

Task<Result<void>> Writer::clear_unknown_features() {
  // What we do not know we do not keep up to date (QCOW2.md 1.3).
  const uint64_t kept = header_.autoclear_features & kAutoclearKnown;
  // Bitmaps that somebody else has not kept up to date must not come back with the next bitmap.
  const bool drops_bitmaps = std::exchange(header_.extensions.has_inconsistent_bitmaps, false);
  if (kept == header_.autoclear_features && !drops_bitmaps) co_return ok();
  header_.autoclear_features = kept;
  CO_RETURN_IF_ERROR(co_await update_header(io_.file(), header_));
  co_return ok();
}

Task<Result<HostRun>> Writer::reserve_compressed(uint64_t guest_offset, uint64_t payload) {
  if (format_.has_data_file) co_return Error::from_errno(ENOTSUP);
  const uint64_t guest_cluster = guest_offset >> header_.cluster_bits;
  CO_ASSIGN_OR_RETURN(const L2Page page, co_await page_for_write(guest_cluster));
  const uint64_t index = guest_cluster - page.first_guest_cluster;
  const L2Entry old = page.entry(index);
  CO_RETURN_IF_ERROR(check_entry(old, guest_cluster));
  CO_ASSIGN_OR_RETURN(const uint64_t host_offset, co_await allocator_.allocate_bytes(payload));
  const unsigned offset_bits = std::min(56U, 62 - (header_.cluster_bits - 8));
  if (host_offset + payload > uint64_t{1} << offset_bits) co_return Error::from_errno(EFBIG);
  note_end(round_up(host_offset + payload, kSectorSize));
  tables_.set_entry(page, index,
                    L2Entry::compressed(HostOffset(host_offset), payload, header_.cluster_bits));
  if (old.type(format_) != ClusterType::kUnallocated) {
    CO_RETURN_IF_ERROR(co_await release_cluster(old));
  }
  co_return HostRun{guest_offset, host_offset, payload, &data_file_};
}

Task<Result<void>> Writer::barrier() {
  if (!is_ordered_) co_return ok();
  if (&data_file_ != &io_.file()) {
    CO_RETURN_IF_ERROR(co_await data_file_.flush());
  }
  CO_RETURN_IF_ERROR(co_await io_.file().flush());
  co_return ok();
}

Task<Result<void>> Writer::write_l2_back() {
  if (!tables_.has_dirty_tables()) co_return ok();
  // An L2 entry must not reach the file before the refcount and the bytes of what it shows.
  CO_RETURN_IF_ERROR(co_await allocator_.flush());
  CO_RETURN_IF_ERROR(co_await barrier());
  CO_RETURN_IF_ERROR(co_await tables_.write_dirty_tables());
  co_return ok();
}

Task<Result<void>> Writer::free_much_released() {
  if (allocator_.has_many_released()) {
    CO_RETURN_IF_ERROR(co_await flush(false));
  }
  co_return ok();
}

Task<Result<void>> Writer::flush(bool sync) {
  CO_RETURN_IF_ERROR(co_await allocate_holes());
  CO_RETURN_IF_ERROR(co_await write_l2_back());
  CO_RETURN_IF_ERROR(co_await allocator_.flush());
  if (tables_.is_l1_dirty()) {
    CO_RETURN_IF_ERROR(co_await barrier());
    CO_RETURN_IF_ERROR(co_await tables_.write_dirty_l1());
  }
  if (allocator_.has_released()) {
    CO_RETURN_IF_ERROR(co_await barrier());
    CO_RETURN_IF_ERROR(co_await allocator_.free_released());
    CO_RETURN_IF_ERROR(co_await allocator_.flush());
  }
  if (sync) {
    CO_RETURN_IF_ERROR(co_await barrier());
  }
  co_return ok();
}

Task<Result<void>> Writer::close() {
  CO_RETURN_IF_ERROR(co_await release_pending());
  CO_RETURN_IF_ERROR(co_await flush(false));
  CO_RETURN_IF_ERROR(co_await extend_file());
  co_return ok();
}

Task<Result<void>> Writer::release_pending() {
  const PendingClusters::Runs runs = pending_.take_all();
  for (const auto& [guest_cluster, run] : runs) {
    if (!run.is_new_space) continue;
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await tables_.page_of(guest_cluster));
    const L2Entry entry =
        page.page == nullptr ? L2Entry() : page.entry(guest_cluster - page.first_guest_cluster);
    // Another holder may have linked the cluster already: then it is in use.
    const bool is_linked = !entry.is_compressed() && entry.host_offset().bytes() == run.host_offset;
    if (is_linked) continue;
    CO_RETURN_IF_ERROR(co_await allocator_.release_unused(
        {run.host_offset >> header_.cluster_bits, run.clusters}));
  }
  co_return ok();
}

Task<Result<void>> Writer::extend_file() {
  CO_ASSIGN_OR_RETURN(const FileStat stat, io_.file().stat());
  // The end may never have been written, since the file gives zeros there.
  if (stat.is_block_device || stat.length >= file_end_) co_return ok();
  CO_RETURN_IF_ERROR(co_await io_.file().truncate(file_end_));
  co_return ok();
}

}  // namespace imgconv::qcow2
