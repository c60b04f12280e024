// ReferenceCounts: how often each host cluster is referenced, as `check` finds it. Memory follows
// what is really referenced, not what a header claims: two bytes per cluster in pages that are made
// at the first reference; counts too large for them stand in a map. Loop thread only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "formats/qcow2/units.h"

namespace imgconv::qcow2 {

class ReferenceCounts {
 public:
  static constexpr uint64_t kPageClusters = 32768;

  uint64_t get(HostCluster cluster) const {
    const uint64_t page = cluster.index() / kPageClusters;
    if (page >= pages_.size() || !pages_[page]) return 0;
    const uint16_t count = (*pages_[page])[cluster.index() % kPageClusters];
    return count == kEscape ? large_.at(cluster.index()) : count;
  }
  /// More references. Requires: the caller bounded the cluster by the file's length, and the sum
  /// fits in 64 bits.
  void add(HostCluster cluster, uint64_t references);
  void increment(HostCluster cluster) { add(cluster, 1); }
  /// Takes one reference from each of `clusters` clusters. Requires: they have one.
  void remove(HostCluster first, uint64_t clusters);
  /// No cluster of [first, first + count) is referenced; cheap, may say no needlessly.
  bool is_surely_unreferenced(HostCluster first, uint64_t count) const;

 private:
  static constexpr uint16_t kEscape = UINT16_MAX;
  using Page = std::array<uint16_t, kPageClusters>;

  std::vector<std::unique_ptr<Page>> pages_;
  std::unordered_map<uint64_t, uint64_t> large_;
};

}  // namespace imgconv::qcow2
