// PendingClusters: guest clusters whose host space is reserved but that no L2 entry shows yet.
//
// Several requests may hold parts of one cluster; it stays pending until the last of them linked
// its part, so that nobody takes the space between for unwritten and fills it anew. Kept as runs:
// one per request and piece of contiguous host space, not one per cluster. Loop thread only.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace imgconv::qcow2 {

struct PendingRun {
  uint64_t clusters = 0;
  uint64_t host_offset = 0;
  /// Subclusters that the requests cover; linking makes them allocated. Bit 0 alone stands for the
  /// cluster when there are no subclusters.
  uint32_t subclusters = 0;
  /// Requests that have not linked their part.
  unsigned holders = 0;
  /// The space was allocated for it, rather than being the cluster's own.
  bool is_new_space = false;
  /// Bytes of the one cluster's compressed stream, which begins at `host_offset`; 0: plain
  /// clusters.
  uint64_t payload = 0;
};

class PendingClusters {
 public:
  using Runs = std::map<uint64_t, PendingRun>;
  using Iterator = Runs::iterator;

  /// The run that contains the cluster, or end().
  Iterator find(uint64_t guest_cluster);
  /// The first run that contains `guest_cluster` or begins behind it.
  Iterator find_from(uint64_t guest_cluster);
  Iterator end() { return runs_.end(); }
  bool is_empty() const { return runs_.empty(); }

  /// Requires: none of the clusters is pending.
  void add(uint64_t guest_cluster, const PendingRun& run) { runs_.emplace(guest_cluster, run); }
  /// The run cut so that it is exactly [guest_cluster, guest_cluster + clusters). Requires: the run
  /// contains them.
  Iterator isolate(Iterator run, uint64_t guest_cluster, uint64_t clusters, unsigned cluster_bits);
  /// One holder less; forgets the run with the last one.
  void drop_holder(Iterator run);
  /// Forgets everything and returns it.
  Runs take_all();

 private:
  Iterator split(Iterator run, uint64_t guest_cluster, unsigned cluster_bits);

  Runs runs_;
};

}  // namespace imgconv::qcow2
