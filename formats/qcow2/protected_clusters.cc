#include "formats/qcow2/protected_clusters.h"

#include <algorithm>

namespace imgconv::qcow2 {

std::string_view metadata_name(MetadataKind kind) {
  switch (kind) {
    case MetadataKind::kHeader:
      return "qcow2_header";
    case MetadataKind::kActiveL1:
      return "active L1 table";
    case MetadataKind::kActiveL2:
      return "active L2 table";
    case MetadataKind::kRefcountBlock:
      return "refcount block";
    case MetadataKind::kRefcountTable:
      return "refcount table";
    case MetadataKind::kSnapshotTable:
      return "snapshot table";
    case MetadataKind::kInactiveL1:
      return "inactive L1 table";
    case MetadataKind::kBitmapDirectory:
      break;
  }
  return "bitmap directory";
}

void ProtectedClusters::add_tables(const std::vector<uint64_t>& l2_tables,
                                   const std::vector<uint64_t>& refcount_blocks) {
  for (const uint64_t cluster : l2_tables) tables_.push_back({cluster, MetadataKind::kActiveL2});
  for (const uint64_t cluster : refcount_blocks) {
    tables_.push_back({cluster, MetadataKind::kRefcountBlock});
  }
  std::ranges::sort(tables_, {}, &Table::host_cluster);
}

void ProtectedClusters::replace(MetadataKind kind, const std::vector<HostClusters>& all) {
  std::erase_if(ranges_, [kind](const Range& taken) { return taken.kind == kind; });
  for (const HostClusters range : all) add(range, kind);
}

void ProtectedClusters::remove(HostClusters range) {
  std::erase_if(ranges_, [range](const Range& taken) {
    return taken.clusters.first == range.first && taken.clusters.clusters == range.clusters;
  });
}

void ProtectedClusters::remove_at(uint64_t first_host_cluster) {
  std::erase_if(ranges_, [first_host_cluster](const Range& taken) {
    return taken.clusters.first == first_host_cluster;
  });
}

void ProtectedClusters::remove_table(uint64_t host_cluster) {
  tables_.erase(std::ranges::lower_bound(tables_, host_cluster, {}, &Table::host_cluster),
                std::ranges::upper_bound(tables_, host_cluster, {}, &Table::host_cluster));
}

void ProtectedClusters::clear() {
  ranges_.clear();
  tables_.clear();
}

std::optional<MetadataKind> ProtectedClusters::find(HostClusters range,
                                                    std::optional<MetadataKind> allowed) const {
  std::optional<MetadataKind> found;
  const auto note = [&found, allowed](MetadataKind kind) {
    if (kind != allowed && (!found || kind < *found)) found = kind;
  };
  for (const Range& taken : ranges_) {
    const bool overlaps = range.first < taken.clusters.end() && taken.clusters.first < range.end();
    if (overlaps) note(taken.kind);
  }
  auto table = std::ranges::lower_bound(tables_, range.first, {}, &Table::host_cluster);
  for (; table != tables_.end() && table->host_cluster < range.end(); ++table) note(table->kind);
  return found;
}

}  // namespace imgconv::qcow2
