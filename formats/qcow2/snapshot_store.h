// The snapshot table on its way to the file: its bytes, and replacing the one an image has
// (QCOW2.md 7). Loop thread only; snapshot_table_bytes() on any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/qcow2/metadata.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/snapshot.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// As QEMU writes it: with everything that version 3 wants, whatever the entries had. EFBIG beyond
/// the limits.
Result<std::vector<std::byte>> snapshot_table_bytes(std::span<const Snapshot> snapshots);

/// Where the header says how many snapshots there are, and where.
inline constexpr uint64_t kSnapshotPointerOffset = offsetof(RawHeader, nb_snapshots);
using SnapshotPointer = std::array<std::byte, 12>;
/// The bytes there.
SnapshotPointer snapshot_pointer(uint32_t count, HostOffset table_offset);

/// A table in the file that nothing leads to yet.
struct NewSnapshotTable {
  uint32_t count = 0;
  /// None for a table without entries.
  HostClusters place;
  /// Of the table that it replaces.
  HostClusters old_place;
};

/// After an error the image is as it was, but for leaks.
Task<Result<NewSnapshotTable>> write_snapshot_table(const Metadata& metadata,
                                                    std::span<const Snapshot> snapshots);
/// The header's pointer changes in one write. Updates the header. After an error the file may have
/// either table: what both refer to must stay counted.
Task<Result<void>> switch_snapshot_table(const Metadata& metadata, NewSnapshotTable table);

/// Both: the file has this table instead of its own when it returns.
Task<Result<void>> store_snapshot_table(const Metadata& metadata,
                                        std::span<const Snapshot> snapshots);

}  // namespace imgconv::qcow2
