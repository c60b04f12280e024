// How much room the refcounts of an image take, which must count themselves as well (QCOW2.md 11).
// Pure, any thread.
#pragma once

#include <cstdint>

namespace imgconv::qcow2 {

struct RefcountSpace {
  uint64_t blocks = 0;
  uint64_t table_clusters = 0;
};

/// Refcount blocks and table clusters that count `other_clusters` and themselves.
RefcountSpace refcount_space(uint64_t other_clusters, unsigned cluster_bits,
                             unsigned refcount_order);

}  // namespace imgconv::qcow2
