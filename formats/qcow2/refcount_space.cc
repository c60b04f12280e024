#include "formats/qcow2/refcount_space.h"

#include "formats/qcow2/on_disk.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

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

}  // namespace imgconv::qcow2
