// The snapshot table of a qcow2 image (QCOW2.md 7): parsed with every limit, entries found by id
// or name. Reading only (writing: snapshot_store.h). Values; read_snapshot_table() on the loop
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/image.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/units.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

struct Snapshot {
  HostOffset l1_table_offset;
  uint32_t l1_entries = 0;
  /// Size of the disk when it was taken; the current one when the entry does not say.
  uint64_t disk_size = 0;
  uint32_t extra_data_size = 0;
  /// Extra data behind what is known, kept verbatim.
  std::vector<std::byte> unknown_extra;
  SnapshotInfo info;
};

struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  /// Bytes of the table in the file, without padding of the last entry.
  uint64_t size = 0;
};

/// `table` holds the bytes from the table's start on. More bytes than the table has are ignored;
/// what is missing counts as zeros, as QEMU reads behind the end of a file.
Result<SnapshotTable> parse_snapshot_table(std::span<const std::byte> table, uint32_t count,
                                           uint64_t virtual_size);

/// Reads the table piece by piece; never more than the 64 MiB that a table may have.
Task<Result<SnapshotTable>> read_snapshot_table(File& file, const Header& header);

/// Its L1 table, as it stands in the file. check_snapshot_l1() comes first.
Task<Result<std::vector<L1Entry>>> read_snapshot_l1(File& file, const Header& header,
                                                    const Snapshot& snapshot);

/// By id first, then by name; null when there is none.
const Snapshot* find_snapshot(std::span<const Snapshot> snapshots, std::string_view id_or_name);

/// QEMU's checks before it reads the L1 table of a snapshot: "Snapshot L1 table offset invalid",
/// "Snapshot L1 table too large".
Result<void> check_snapshot_l1(const Snapshot& snapshot, const Header& header);

}  // namespace imgconv::qcow2
