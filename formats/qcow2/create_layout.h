// Where everything of a new qcow2 image goes. All clusters from 0 to the last one are used once, so
// the refcounts follow from one number. Positions are those of QEMU as long as one refcount block
// counts the whole image; beyond that its blocks lie scattered, ours lie together. Pure, any
// thread.
#pragma once

#include <cstdint>

#include "formats/qcow2/create_options.h"
#include "formats/qcow2/units.h"

namespace imgconv::qcow2 {

struct CreateLayout {
  unsigned cluster_bits = 16;
  uint64_t l2_entries = 0;
  /// Tables to be filled and clusters they point to in this file; 0 without preallocation.
  uint64_t l2_tables = 0;
  uint64_t data_clusters = 0;
  uint64_t refcount_blocks = 0;
  uint64_t refcount_table_clusters = 0;
  uint64_t l1_clusters = 0;
  uint64_t total_clusters = 0;
  /// falloc and full: the data is one piece, tables around it. Otherwise each L2 table stands in
  /// front of its data.
  bool has_contiguous_data = false;

  HostCluster refcount_table() const;
  HostCluster refcount_block(uint64_t index) const;
  HostCluster l1_table() const;
  /// Requires: index < l2_tables.
  HostCluster l2_table(uint64_t index) const;
  /// Requires: data_clusters > 0.
  HostCluster data(GuestCluster cluster) const;
  uint64_t data_end_bytes() const { return total_clusters << cluster_bits; }
};

/// Also sets the table offsets and sizes in `request.header`.
CreateLayout plan_create_layout(CreateRequest& request);

/// Refcount blocks and table clusters that count `other_clusters` and themselves (QCOW2.md 11).
struct RefcountSpace {
  uint64_t blocks = 0;
  uint64_t table_clusters = 0;
};
RefcountSpace refcount_space(uint64_t other_clusters, unsigned cluster_bits,
                             unsigned refcount_order);

}  // namespace imgconv::qcow2
