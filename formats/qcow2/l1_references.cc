#include "formats/qcow2/l1_references.h"

#include <fmt/format.h>

#include <limits>

#include "formats/qcow2/corruption.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

L1References::L1References(const Metadata& metadata, std::span<const L1Entry> l1)
    : metadata_(metadata), l1_(l1) {}

Task<Result<void>> L1References::add() {
  const Result<void> added = co_await visit_all(Change::kAdd, std::numeric_limits<uint64_t>::max());
  if (added) co_return ok();
  // The error that is told is the first one; what cannot be taken back leaks.
  const Result<void> undone = co_await visit_all(Change::kUndo, visited_);
  static_cast<void>(undone);
  co_return added;
}

Task<Result<void>> L1References::take_back() {
  CO_RETURN_IF_ERROR(co_await visit_all(Change::kUndo, std::numeric_limits<uint64_t>::max()));
  co_return ok();
}

Task<Result<void>> L1References::drop() {
  CO_RETURN_IF_ERROR(co_await visit_all(Change::kDrop, std::numeric_limits<uint64_t>::max()));
  co_return ok();
}

Task<Result<void>> L1References::visit_all(Change change, uint64_t limit) {
  visited_ = 0;
  limit_ = limit;
  for (size_t i = 0; i < l1_.size() && visited_ < limit_; ++i) {
    if (l1_[i].has_table()) CO_RETURN_IF_ERROR(co_await visit_table(change, l1_[i], i));
  }
  co_return ok();
}

Task<Result<void>> L1References::visit_table(Change change, L1Entry entry, uint64_t l1_index) {
  const Header& header = metadata_.header;
  const uint64_t table_offset = entry.table_offset().bytes();
  if (!is_aligned(table_offset, header.cluster_size())) {
    co_return corruption(fmt::format("L2 table offset {} unaligned (L1 index: {})",
                                     hex(table_offset), hex(l1_index)));
  }
  table_.resize(header.cluster_size());
  CO_RETURN_IF_ERROR(co_await metadata_.io.read_one(table_offset, table_));
  HostClusters run;
  for (uint64_t i = 0; i < header.l2_entries(); ++i) {
    const L2Entry l2_entry(load_be<uint64_t>(&table_[i * header.l2_entry_bytes()]));
    CO_ASSIGN_OR_RETURN(const HostClusters next, clusters_of(l2_entry, table_offset, i));
    if (next.clusters == 0) continue;
    if (next.first == run.end()) {
      run.clusters += next.clusters;
      continue;
    }
    CO_RETURN_IF_ERROR(co_await visit(change, run));
    run = next;
  }
  CO_RETURN_IF_ERROR(co_await visit(change, run));
  CO_RETURN_IF_ERROR(
      co_await visit(change, {table_offset >> header.cluster_bits, 1}, MetadataKind::kActiveL2));
  CO_RETURN_IF_ERROR(co_await discard_freed());
  co_return ok();
}

Result<HostClusters> L1References::clusters_of(L2Entry entry, uint64_t table_offset,
                                               uint64_t index) const {
  const unsigned bits = metadata_.header.cluster_bits;
  if (entry.is_compressed()) {
    const CompressedLocation place = entry.compressed_location(bits);
    const uint64_t first = place.offset.bytes() >> bits;
    return HostClusters{first,
                        clusters_for((place.offset + place.length).bytes(), bits).value() - first};
  }
  const uint64_t offset = entry.host_offset().bytes();
  // In an external data file nothing is counted.
  if (offset == 0 || metadata_.header.has_data_file()) return HostClusters{};
  if (!is_aligned(offset, uint64_t{1} << bits)) {
    return corruption(
        fmt::format("Cluster allocation offset {} unaligned (L2 offset: {}, L2 index: {})",
                    hex(offset), hex(table_offset), hex(index)));
  }
  return HostClusters{offset >> bits, 1};
}

Task<Result<void>> L1References::visit(Change change, HostClusters clusters,
                                       std::optional<MetadataKind> kind) {
  // One by one, so that it is known which of them were changed when one cannot be.
  for (uint64_t cluster = clusters.first; cluster < clusters.end() && visited_ < limit_;
       ++cluster) {
    if (change == Change::kAdd) {
      CO_RETURN_IF_ERROR(co_await metadata_.refcounts.increment({cluster, 1}));
    } else if (change == Change::kUndo || metadata_.allocator.may_release({cluster, 1}, kind)) {
      CO_RETURN_IF_ERROR(co_await drop_one(cluster));
    }
    ++visited_;
  }
  co_return ok();
}

Task<Result<void>> L1References::drop_one(uint64_t host_cluster) {
  CO_ASSIGN_OR_RETURN(const bool became_free,
                      co_await metadata_.allocator.release_unused({host_cluster, 1}));
  if (!became_free) co_return ok();
  metadata_.allocator.protected_clusters().remove_table(host_cluster);
  if (!freed_.empty() && freed_.back().end() == host_cluster) {
    ++freed_.back().clusters;
  } else {
    freed_.push_back({host_cluster, 1});
  }
  co_return ok();
}

Task<Result<void>> L1References::discard_freed() {
  const unsigned bits = metadata_.header.cluster_bits;
  for (const HostClusters& range : freed_) {
    // A favour to the file system, which may decline.
    const Result<void> ignored =
        co_await metadata_.io.file().discard(range.first << bits, range.clusters << bits);
    static_cast<void>(ignored);
  }
  freed_.clear();
  co_return ok();
}

namespace {

Task<Result<void>> update_table(const Metadata& metadata, uint64_t l1_index) {
  const unsigned bits = metadata.header.cluster_bits;
  const uint64_t first = l1_index * metadata.tables.l2_entries();
  const uint64_t end = first + metadata.tables.l2_entries();
  for (uint64_t cluster = first; cluster < end;) {
    CO_ASSIGN_OR_RETURN(const L2Page page, co_await metadata.tables.page_of(cluster));
    for (; cluster < page.end_guest_cluster(); ++cluster) {
      const uint64_t index = cluster - page.first_guest_cluster;
      const L2Entry entry = page.entry(index);
      if (entry.is_compressed() || entry.host_offset().bytes() == 0) continue;
      CO_ASSIGN_OR_RETURN(const uint64_t count,
                          co_await metadata.refcounts.get(entry.host_offset().bytes() >> bits));
      const uint64_t raw = count == 1 ? entry.raw() | kCopiedBit : entry.raw() & ~kCopiedBit;
      if (raw != entry.raw()) {
        metadata.tables.set_entry(page, index, L2Entry(raw, entry.bitmap()));
      }
    }
  }
  co_return ok();
}

}  // namespace

Task<Result<void>> update_copied_bits(const Metadata& metadata) {
  const size_t entries = metadata.tables.l1().size();
  for (size_t i = 0; i < entries; ++i) {
    const L1Entry entry = metadata.tables.l1_entry(i);
    if (!entry.has_table()) continue;
    CO_ASSIGN_OR_RETURN(const uint64_t count,
                        co_await metadata.refcounts.get(entry.table_offset().bytes() >>
                                                        metadata.header.cluster_bits));
    const L1Entry updated =
        L1Entry::table(entry.table_offset(), count == 1 ? Copied::kYes : Copied::kNo);
    if (updated != entry) metadata.tables.set_l1(i, updated);
    CO_RETURN_IF_ERROR(co_await update_table(metadata, i));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
