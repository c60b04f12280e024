// The five units of qcow2 that must not be mixed: byte offsets and cluster numbers, each of the
// virtual disk (guest) or of the image file (host), and a number of clusters. Values, any thread.
//
// Differences of offsets are plain bytes (uint64_t). There are two ways from an offset to a
// cluster: containing_cluster() drops the low bits, cluster_if_aligned() refuses them.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

namespace imgconv::qcow2 {

/// A byte position in the address space `Space`.
template <class Space>
class Offset {
 public:
  constexpr Offset() = default;
  constexpr explicit Offset(uint64_t bytes) : bytes_(bytes) {}
  constexpr uint64_t bytes() const { return bytes_; }
  friend constexpr auto operator<=>(Offset, Offset) = default;
  /// Requires: the sum fits in 64 bits.
  friend constexpr Offset operator+(Offset offset, uint64_t bytes) {
    return Offset(offset.bytes_ + bytes);
  }
  /// Bytes from b to a. Requires: b <= a.
  friend constexpr uint64_t operator-(Offset a, Offset b) { return a.bytes_ - b.bytes_; }

 private:
  uint64_t bytes_ = 0;
};

class ClusterCount {
 public:
  constexpr ClusterCount() = default;
  constexpr explicit ClusterCount(uint64_t clusters) : clusters_(clusters) {}
  constexpr uint64_t value() const { return clusters_; }
  constexpr uint64_t bytes(unsigned cluster_bits) const { return clusters_ << cluster_bits; }
  friend constexpr auto operator<=>(ClusterCount, ClusterCount) = default;
  friend constexpr ClusterCount operator+(ClusterCount a, ClusterCount b) {
    return ClusterCount(a.clusters_ + b.clusters_);
  }
  /// Requires: b <= a.
  friend constexpr ClusterCount operator-(ClusterCount a, ClusterCount b) {
    return ClusterCount(a.clusters_ - b.clusters_);
  }

 private:
  uint64_t clusters_ = 0;
};

/// The number of a cluster in the address space `Space`, from 0.
template <class Space>
class Cluster {
 public:
  constexpr Cluster() = default;
  constexpr explicit Cluster(uint64_t index) : index_(index) {}
  constexpr uint64_t index() const { return index_; }
  /// First byte. Requires: it fits in 64 bits.
  constexpr Offset<Space> offset(unsigned cluster_bits) const {
    return Offset<Space>(index_ << cluster_bits);
  }
  friend constexpr auto operator<=>(Cluster, Cluster) = default;
  friend constexpr Cluster operator+(Cluster cluster, ClusterCount count) {
    return Cluster(cluster.index_ + count.value());
  }
  /// Clusters from b to a. Requires: b <= a.
  friend constexpr ClusterCount operator-(Cluster a, Cluster b) {
    return ClusterCount(a.index_ - b.index_);
  }

 private:
  uint64_t index_ = 0;
};

struct GuestSpace;
struct HostSpace;
using GuestOffset = Offset<GuestSpace>;
using HostOffset = Offset<HostSpace>;
using GuestCluster = Cluster<GuestSpace>;
using HostCluster = Cluster<HostSpace>;

/// The cluster that holds this byte; the position inside it is dropped.
template <class Space>
constexpr Cluster<Space> containing_cluster(Offset<Space> offset, unsigned cluster_bits) {
  return Cluster<Space>(offset.bytes() >> cluster_bits);
}

/// The cluster that begins at this byte, or nothing when none does.
template <class Space>
constexpr std::optional<Cluster<Space>> cluster_if_aligned(Offset<Space> offset,
                                                           unsigned cluster_bits) {
  const Cluster<Space> cluster = containing_cluster(offset, cluster_bits);
  if (cluster.offset(cluster_bits) != offset) return std::nullopt;
  return cluster;
}

template <class Space>
constexpr bool is_cluster_aligned(Offset<Space> offset, unsigned cluster_bits) {
  return cluster_if_aligned(offset, cluster_bits).has_value();
}

/// Clusters needed for `bytes` bytes.
constexpr ClusterCount clusters_for(uint64_t bytes, unsigned cluster_bits) {
  const uint64_t mask = (uint64_t{1} << cluster_bits) - 1;
  return ClusterCount((bytes >> cluster_bits) + ((bytes & mask) != 0 ? 1 : 0));
}

}  // namespace imgconv::qcow2
