// ProtectedClusters: where an image that is written to has its metadata, so that damaged refcounts
// or table entries do not bring data there. QEMU's overlap check, with its names. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/qcow2/refcount.h"

namespace imgconv::qcow2 {

/// In the order in which QEMU asks: a cluster may be of more than one kind.
enum class MetadataKind : uint8_t {
  kHeader,
  kActiveL1,
  kActiveL2,
  kRefcountBlock,
  kRefcountTable,
  kSnapshotTable,
  kInactiveL1,
  kBitmapDirectory,
};

/// As in "overlaps with %s".
std::string_view metadata_name(MetadataKind kind);

class ProtectedClusters {
 public:
  void add(HostClusters range, MetadataKind kind) { ranges_.push_back({range, kind}); }
  /// add() for many clusters that stand alone, of both kinds. Once.
  void add_tables(const std::vector<uint64_t>& l2_tables,
                  const std::vector<uint64_t>& refcount_blocks);
  /// These are all of their kind.
  void replace(MetadataKind kind, const std::vector<HostClusters>& all);
  void remove(HostClusters range);
  /// What add() said of the range that begins here is void.
  void remove_at(uint64_t first_host_cluster);
  /// The table moved; its refcount decides about the old place.
  void remove_table(uint64_t host_cluster);
  void clear();

  /// What of the range is metadata, other than `allowed`.
  std::optional<MetadataKind> find(HostClusters range,
                                   std::optional<MetadataKind> allowed = std::nullopt) const;

 private:
  struct Range {
    HostClusters clusters;
    MetadataKind kind;
  };
  struct Table {
    uint64_t host_cluster = 0;
    MetadataKind kind = MetadataKind::kActiveL2;
  };
  std::vector<Range> ranges_;
  /// Ascending.
  std::vector<Table> tables_;
};

}  // namespace imgconv::qcow2
