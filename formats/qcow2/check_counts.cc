#include "formats/qcow2/check_counts.h"

namespace imgconv::qcow2 {

ReferenceCounts::Page& ReferenceCounts::page_of(uint64_t index) {
  if (Page* const page = find_page(index)) return *page;
  std::unique_ptr<Page>& page = pages_[index];
  page = std::make_unique<Page>();
  found_page_ = page.get();
  return *page;
}

void ReferenceCounts::add(HostCluster cluster, uint64_t references) {
  if (references == 0) return;
  uint16_t& count = page_of(cluster.index() / kPageClusters)[cluster.index() % kPageClusters];
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
    uint16_t& count = page_of(index / kPageClusters)[index % kPageClusters];
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
    if (find_page(page) != nullptr) return false;
  }
  return true;
}

}  // namespace imgconv::qcow2
