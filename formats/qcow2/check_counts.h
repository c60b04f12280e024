// ReferenceCounts: how often each host cluster is referenced, as `check` finds it. Memory follows
// what is really referenced, not what a header or the length of the file claims: two bytes per
// cluster in pages that are made at the first reference, small ones since a hostile image has its
// references far apart. Counts too large for them stand in a map. Loop thread only.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "formats/qcow2/units.h"

namespace imgconv::qcow2 {

class ReferenceCounts {
 public:
  static constexpr uint64_t kPageClusters = 256;

  uint64_t get(HostCluster cluster) const {
    const Page* const page = find_page(cluster.index() / kPageClusters);
    if (page == nullptr) return 0;
    const uint16_t count = (*page)[cluster.index() % kPageClusters];
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

  /// Null where nothing was referenced.
  Page* find_page(uint64_t index) const {
    if (index != found_index_) {
      const auto found = pages_.find(index);
      found_index_ = index;
      found_page_ = found == pages_.end() ? nullptr : found->second.get();
    }
    return found_page_;
  }
  /// Makes the page if need be.
  Page& page_of(uint64_t index);

  std::unordered_map<uint64_t, std::unique_ptr<Page>> pages_;
  std::unordered_map<uint64_t, uint64_t> large_;
  /// The page that was asked for last, since clusters are mostly visited in order.
  mutable uint64_t found_index_ = UINT64_MAX;
  mutable Page* found_page_ = nullptr;
};

}  // namespace imgconv::qcow2
