#include "formats/qcow2/check_counts.h"

#include <algorithm>

namespace imgconv::qcow2 {

void ReferenceCounts::add(HostCluster cluster, uint64_t references) {
  if (references == 0) return;
  const uint64_t page = cluster.index() / kPageClusters;
  if (page >= pages_.size()) pages_.resize(page + 1);
  if (!pages_[page]) pages_[page] = std::make_unique<Page>();
  uint16_t& count = (*pages_[page])[cluster.index() % kPageClusters];
  if (count == kEscape) {
    large_[cluster.index()] += references;
  } else if (references < uint64_t{kEscape} - count) {
    count = static_cast<uint16_t>(count + references);
  } else {
    large_[cluster.index()] = count + references;
    count = kEscape;
  }
}

void ReferenceCounts::remove(HostCluster first, uint64_t clusters) {
  for (uint64_t index = first.index(); index < first.index() + clusters; ++index) {
    uint16_t& count = (*pages_[index / kPageClusters])[index % kPageClusters];
    if (count != kEscape) {
      --count;
    } else if (--large_[index] < kEscape) {
      large_.erase(index);
      --count;
    }
  }
}

bool ReferenceCounts::is_surely_unreferenced(HostCluster first, uint64_t count) const {
  const uint64_t last_page = (first.index() + count - 1) / kPageClusters;
  for (uint64_t page = first.index() / kPageClusters; page <= last_page; ++page) {
    if (page >= pages_.size()) return true;
    if (pages_[page]) return false;
  }
  return true;
}

}  // namespace imgconv::qcow2
