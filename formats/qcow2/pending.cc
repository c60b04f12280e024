#include "formats/qcow2/pending.h"

#include <cassert>
#include <utility>

namespace imgconv::qcow2 {

PendingClusters::Iterator PendingClusters::find_from(uint64_t guest_cluster) {
  const Iterator behind = runs_.upper_bound(guest_cluster);
  if (behind == runs_.begin()) return behind;
  const Iterator before = std::prev(behind);
  return guest_cluster < before->first + before->second.clusters ? before : behind;
}

PendingClusters::Iterator PendingClusters::find(uint64_t guest_cluster) {
  const Iterator run = find_from(guest_cluster);
  return run != runs_.end() && run->first <= guest_cluster ? run : runs_.end();
}

PendingClusters::Iterator PendingClusters::split(Iterator run, uint64_t guest_cluster,
                                                 unsigned cluster_bits) {
  const uint64_t before = guest_cluster - run->first;
  if (before == 0) return run;
  PendingRun rest = run->second;
  assert(before < rest.clusters);
  rest.clusters -= before;
  rest.host_offset += before << cluster_bits;
  run->second.clusters = before;
  return runs_.emplace_hint(std::next(run), guest_cluster, rest);
}

PendingClusters::Iterator PendingClusters::isolate(Iterator run, uint64_t guest_cluster,
                                                   uint64_t clusters, unsigned cluster_bits) {
  run = split(run, guest_cluster, cluster_bits);
  if (clusters < run->second.clusters) split(run, guest_cluster + clusters, cluster_bits);
  return run;
}

void PendingClusters::drop_holder(Iterator run) {
  assert(run->second.holders > 0);
  if (--run->second.holders == 0) runs_.erase(run);
}

PendingClusters::Runs PendingClusters::take_all() { return std::exchange(runs_, {}); }

}  // namespace imgconv::qcow2
