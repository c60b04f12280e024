// Writer, part 4: the way of metadata to the file, and the begin and the end of writing.
#include <utility>

#include "formats/qcow2/writer.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

// Ours: 256 KiB of ranges.
constexpr size_t kManyGivenUp = 16384;

}  // namespace

void Writer::protect_metadata() {
  const unsigned bits = header_.cluster_bits;
  ProtectedClusters& clusters = allocator_.protected_clusters();
  const auto protect = [&clusters, bits](HostOffset offset, uint64_t bytes, MetadataKind kind) {
    if (bytes == 0) return;
    clusters.add({offset.bytes() >> bits, clusters_for(bytes, bits).value()}, kind);
  };
  clusters.add({0, 1}, MetadataKind::kHeader);
  clusters.add(refcounts_.table_range(), MetadataKind::kRefcountTable);
  protect(header_.l1_table_offset, header_.l1_entries * kTableEntryBytes, MetadataKind::kActiveL1);
  protect(header_.snapshot_table_offset, header_.snapshot_count * sizeof(RawSnapshot),
          MetadataKind::kSnapshotTable);
  if (const auto& bitmaps = header_.extensions.bitmaps) {
    protect(bitmaps->directory_offset, bitmaps->directory_size, MetadataKind::kBitmapDirectory);
  }
  std::vector<uint64_t> tables;
  for (const L1Entry entry : tables_.l1()) {
    if (entry.has_table()) tables.push_back(entry.table_offset().bytes() >> bits);
  }
  clusters.add_tables(tables, refcounts_.block_clusters());
  clusters.replace(MetadataKind::kInactiveL1, snapshot_tables_);
}

void Writer::protect_snapshots(std::span<const Snapshot> snapshots) {
  snapshot_tables_.clear();
  for (const Snapshot& snapshot : snapshots) {
    // Whose table is nowhere, or has no end, cannot be used by anybody.
    if (snapshot.l1_entries == 0 || !check_snapshot_l1(snapshot, header_)) continue;
    snapshot_tables_.push_back(
        metadata().clusters_of(snapshot.l1_table_offset, snapshot.l1_entries * kTableEntryBytes));
  }
  allocator_.protected_clusters().replace(MetadataKind::kInactiveL1, snapshot_tables_);
}

Task<Result<void>> Writer::reload_refcounts(uint64_t end_cluster) {
  CO_RETURN_IF_ERROR(co_await refcounts_.load_table());
  allocator_.restart(end_cluster);
  protect_metadata();
  co_return ok();
}

void Writer::set_remark(std::function<void(const std::string& line)> remark) {
  remark_ = remark;
  allocator_.set_remark(std::move(remark));
}

Task<Result<void>> Writer::start() {
  CO_RETURN_IF_ERROR(co_await refcounts_.load_table());
  tables_.set_write_back([this] { return write_l2_back(); });
  refcounts_.set_barrier([this] { return barrier(); });
  protect_metadata();
  co_return ok();
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
  for (const TableCache::Page* const page : tables_.dirty_pages()) {
    const HostClusters place{page->host_offset >> header_.cluster_bits, 1};
    CO_RETURN_IF_ERROR(allocator_.check_unprotected(place, MetadataKind::kActiveL2));
  }
  // An L2 entry must not reach the file before the refcount and the bytes of what it shows.
  CO_RETURN_IF_ERROR(co_await allocator_.flush());
  CO_RETURN_IF_ERROR(co_await barrier());
  CO_RETURN_IF_ERROR(co_await tables_.write_dirty_tables());
  co_return ok();
}

Task<Result<void>> Writer::free_much_released() {
  if (allocator_.has_many_released() || given_up_.size() >= kManyGivenUp) {
    CO_RETURN_IF_ERROR(co_await flush(false));
  }
  co_return ok();
}

void Writer::note_given_up(HostClusters range) {
  if (!given_up_.empty() && given_up_.back().end() == range.first) {
    given_up_.back().clusters += range.clusters;
  } else {
    given_up_.push_back(range);
  }
}

Task<Result<void>> Writer::discard_given_up() {
  const unsigned bits = header_.cluster_bits;
  for (const HostClusters range : std::exchange(given_up_, {})) {
    for (uint64_t first = range.first; first < range.end();) {
      uint64_t end = first;
      for (; end < range.end(); ++end) {
        if (format_.has_data_file) continue;
        CO_ASSIGN_OR_RETURN(const uint64_t count, co_await refcounts_.get(end));
        if (count != 0) break;
      }
      if (first < end) {
        // A favour to the file system, which may decline.
        const Result<void> ignored =
            co_await data_file_.discard(first << bits, (end - first) << bits);
        static_cast<void>(ignored);
      }
      first = end + 1;
    }
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
  CO_RETURN_IF_ERROR(co_await discard_given_up());
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
    if (run.payload != 0) {
      CO_RETURN_IF_ERROR(co_await allocator_.release_bytes(run.host_offset, run.payload));
      continue;
    }
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
