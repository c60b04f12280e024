#include "formats/qcow2/create_layout.h"

#include "formats/qcow2/on_disk.h"

namespace imgconv::qcow2 {

HostCluster CreateLayout::refcount_table() const {
  if (!has_contiguous_data) return HostCluster(1);
  // QEMU moves the table when it reserves the data area; the first L2 table takes the old place.
  return HostCluster(3 + l1_clusters + (refcount_blocks - 1));
}

HostCluster CreateLayout::refcount_block(uint64_t index) const {
  if (!has_contiguous_data) return HostCluster(1 + refcount_table_clusters + index);
  return index == 0 ? HostCluster(2) : HostCluster(3 + l1_clusters + (index - 1));
}

HostCluster CreateLayout::l1_table() const {
  return HostCluster(has_contiguous_data ? 3 : 1 + refcount_table_clusters + refcount_blocks);
}

HostCluster CreateLayout::l2_table(uint64_t index) const {
  if (has_contiguous_data) {
    if (index == 0) return HostCluster(1);
    return data(GuestCluster(0)) + ClusterCount(data_clusters + index - 1);
  }
  const HostCluster first = l1_table() + ClusterCount(l1_clusters);
  return first + ClusterCount(index * (data_clusters == 0 ? 1 : 1 + l2_entries));
}

HostCluster CreateLayout::data(GuestCluster cluster) const {
  if (has_contiguous_data) {
    return refcount_table() + ClusterCount(refcount_table_clusters + cluster.index());
  }
  return l2_table(cluster.index() / l2_entries) + ClusterCount(1 + cluster.index() % l2_entries);
}

RefcountSpace refcount_space(uint64_t other_clusters, unsigned cluster_bits,
                             unsigned refcount_order) {
  const uint64_t cluster_size = uint64_t{1} << cluster_bits;
  const uint64_t block_entries = cluster_size * 8 >> refcount_order;
  RefcountSpace space;
  // Grows monotonically and each round adds clusters only for clusters of the round before, of
  // which a block counts at least 64: it ends after a few rounds.
  for (;;) {
    const uint64_t clusters = other_clusters + space.blocks + space.table_clusters;
    const uint64_t blocks = div_round_up(clusters, block_entries);
    const uint64_t table_clusters = div_round_up(blocks, cluster_size / kTableEntryBytes);
    if (blocks == space.blocks && table_clusters == space.table_clusters) return space;
    space = {blocks, table_clusters};
  }
}

CreateLayout plan_create_layout(CreateRequest& request) {
  Header& header = request.header;
  CreateLayout layout;
  layout.cluster_bits = header.cluster_bits;
  layout.l2_entries = header.l2_entries();
  layout.l1_clusters =
      clusters_for(header.l1_entries * kTableEntryBytes, header.cluster_bits).value();
  if (request.preallocation != Preallocation::kOff) {
    layout.l2_tables = header.l1_entries;
    if (!header.has_data_file()) {
      layout.data_clusters = clusters_for(header.virtual_size, header.cluster_bits).value();
    }
  }
  layout.has_contiguous_data =
      request.preallocation >= Preallocation::kFalloc && layout.data_clusters != 0;

  const uint64_t others = 1 + layout.l1_clusters + layout.l2_tables + layout.data_clusters;
  const RefcountSpace space = refcount_space(others, header.cluster_bits, header.refcount_order);
  layout.refcount_blocks = space.blocks;
  layout.refcount_table_clusters = space.table_clusters;
  layout.total_clusters = others + space.blocks + space.table_clusters;

  header.refcount_table_offset = layout.refcount_table().offset(header.cluster_bits);
  header.refcount_table_clusters = static_cast<uint32_t>(layout.refcount_table_clusters);
  if (header.l1_entries != 0) {
    header.l1_table_offset = layout.l1_table().offset(header.cluster_bits);
  }
  return layout;
}

}  // namespace imgconv::qcow2
