#include "formats/qcow2/check_counts.h"

#include <algorithm>

namespace imgconv::qcow2 {

void ReferenceCounts::increment(HostCluster cluster) {
  const uint64_t page = cluster.index() / kPageClusters;
  if (page >= pages_.size()) pages_.resize(page + 1);
  if (!pages_[page]) pages_[page] = std::make_unique<Page>();
  uint16_t& count = (*pages_[page])[cluster.index() % kPageClusters];
  if (count == kEscape) {
    ++large_[cluster.index()];
    return;
  }
  ++count;
  if (count == kEscape) large_[cluster.index()] = kEscape;
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
