#include "formats/qcow2/check.h"

#include <fmt/format.h>

#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "formats/qcow2/check_compare.h"
#include "formats/qcow2/check_context.h"
#include "formats/qcow2/check_references.h"
#include "formats/qcow2/snapshot.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// Snapshot entries of version 3 must at least say how large the VM state and the disk are.
constexpr uint32_t kMinV3ExtraBytes = 16;

/// What an ordinary open checks, here with the words of `check`.
Result<void> check_snapshot_pointer(const Header& header) {
  if (header.snapshot_count > kMaxSnapshots) {
    return Error(EFBIG, "ERROR snapshot table too large")
        .with_hint(
            fmt::format("You can force-remove all {} overhanging snapshots with qemu-img check -r "
                        "all",
                        header.snapshot_count - kMaxSnapshots));
  }
  constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
  const uint64_t minimum = header.snapshot_count * sizeof(RawSnapshot);
  if (header.snapshot_table_offset.bytes() > kMaxOffset - minimum ||
      !is_cluster_aligned(header.snapshot_table_offset, header.cluster_bits)) {
    return Error(EINVAL, "ERROR snapshot table offset invalid");
  }
  return ok();
}

/// Reads the table and counts incomplete entries.
Task<Result<SnapshotTable>> check_snapshot_table(File& file, const Header& header,
                                                 const CheckSink& sink, uint64_t& corruptions) {
  CO_RETURN_IF_ERROR(check_snapshot_pointer(header));
  auto table = co_await read_snapshot_table(file, header);
  if (!table) {
    co_return std::move(table).error().within("ERROR failed to read the snapshot table");
  }
  if (header.version >= 3) {
    for (size_t i = 0; i < table->snapshots.size(); ++i) {
      if (table->snapshots[i].extra_data_size >= kMinV3ExtraBytes) continue;
      sink(fmt::format("ERROR snapshot table entry {} is incomplete", i));
      ++corruptions;
    }
  }
  co_return table;
}

Task<Result<std::vector<RefcountTableEntry>>> read_refcount_table(CheckContext& context) {
  const Header& header = context.header;
  // The header's parser bounded the table to 8 MiB.
  CO_ASSIGN_OR_RETURN(
      const std::vector<uint64_t> raw,
      co_await read_table(context, header.refcount_table_offset, header.refcount_table_entries()));
  std::vector<RefcountTableEntry> table;
  table.reserve(raw.size());
  for (const uint64_t entry : raw) table.emplace_back(entry);
  co_return table;
}

}  // namespace

Task<Result<CheckReport>> check(File& file, File* /*data_file*/, const Header& header,
                                const CheckSink& sink) {
  uint64_t snapshot_corruptions = 0;
  CO_ASSIGN_OR_RETURN(const SnapshotTable snapshots,
                      co_await check_snapshot_table(file, header, sink, snapshot_corruptions));
  CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
  const uint64_t length = round_up(stat.length, kSectorSize);
  CheckContext context(file, header, sink, length);
  context.cluster_count = clusters_for(length, header.cluster_bits).value();
  if (context.cluster_count > std::numeric_limits<int32_t>::max()) co_return Error(EFBIG, "");
  context.report.total_clusters = clusters_for(header.guest_size(), header.cluster_bits).value();

  CO_ASSIGN_OR_RETURN(const std::vector<RefcountTableEntry> refcount_table,
                      co_await read_refcount_table(context));
  CO_RETURN_IF_ERROR(co_await count_references(context, file, snapshots, refcount_table));
  StoredRefcounts stored(context, refcount_table);
  CO_RETURN_IF_ERROR(co_await compare_refcounts(context, stored));
  CO_RETURN_IF_ERROR(co_await check_copied_bits(context, stored));
  context.report.corruptions += snapshot_corruptions;
  co_return context.report;
}

}  // namespace imgconv::qcow2
