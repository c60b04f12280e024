#include "formats/qcow2/check.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <limits>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/check_compare.h"
#include "formats/qcow2/check_context.h"
#include "formats/qcow2/check_copied.h"
#include "formats/qcow2/check_references.h"
#include "formats/qcow2/repair_bitmaps.h"
#include "formats/qcow2/repair_rebuild.h"
#include "formats/qcow2/repair_snapshots.h"
#include "formats/qcow2/snapshot.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// One check from its beginning to its end.
struct Run {
  CheckContext context;
  Header& header;
  SalvagedSnapshots snapshots;
  bool is_snapshot_table_counted = false;
  std::vector<RefcountTableEntry> refcount_table;
};

/// What an ordinary open checks, here with the words of `check`.
Result<void> check_snapshot_pointer(const Header& header, RepairMode mode) {
  const bool has_too_many = header.snapshot_count > kMaxSnapshots;
  if (has_too_many && mode != RepairMode::kAll) {
    return Error(EFBIG, "ERROR snapshot table too large")
        .with_hint(
            fmt::format("You can force-remove all {} overhanging snapshots with qemu-img check -r "
                        "all",
                        header.snapshot_count - kMaxSnapshots));
  }
  constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();
  const uint64_t minimum =
      (has_too_many ? kMaxSnapshots : header.snapshot_count) * sizeof(RawSnapshot);
  if (header.snapshot_table_offset.bytes() > kMaxOffset - minimum ||
      !is_cluster_aligned(header.snapshot_table_offset, header.cluster_bits)) {
    return Error(EINVAL, "ERROR snapshot table offset invalid");
  }
  return ok();
}

/// Reads the table and counts incomplete entries.
Task<Result<void>> check_snapshot_table(Run& run) {
  CheckContext& context = run.context;
  CO_RETURN_IF_ERROR(check_snapshot_pointer(run.header, context.mode));
  if (context.may_repair_errors()) {
    auto salvaged = co_await salvage_snapshots(context);
    if (!salvaged) {
      co_return std::move(salvaged).error().within("ERROR failed to read the snapshot table");
    }
    run.snapshots = std::move(*salvaged);
    co_return ok();
  }
  auto table = co_await read_snapshot_table(context.file(), run.header);
  if (!table) {
    co_return std::move(table).error().within("ERROR failed to read the snapshot table");
  }
  run.snapshots.table = std::move(*table);
  if (run.header.version < 3) co_return ok();
  for (size_t i = 0; i < run.snapshots.table.snapshots.size(); ++i) {
    const Snapshot& snapshot = run.snapshots.table.snapshots[i];
    if (snapshot.extra_data_size >= kMinV3SnapshotExtraBytes) continue;
    context.say(fmt::format("ERROR snapshot table entry {} is incomplete", i));
    ++run.snapshots.corruptions;
  }
  co_return ok();
}

Task<Result<void>> read_refcount_table(Run& run) {
  const Header& header = run.header;
  // The header's parser bounded the table to 8 MiB.
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> raw,
                      co_await read_table(run.context, header.refcount_table_offset,
                                          header.refcount_table_entries()));
  run.refcount_table.clear();
  run.refcount_table.reserve(raw.size());
  for (const uint64_t entry : raw) run.refcount_table.emplace_back(entry);
  co_return ok();
}

/// Where tables must not be written that stand in a wrong place.
void collect_metadata(Run& run) {
  const Header& header = run.header;
  MetadataRanges& metadata = run.context.metadata;
  metadata = {};
  metadata.add(HostOffset(0), header.cluster_size(), "qcow2_header");
  metadata.add(header.l1_table_offset, header.l1_entries * kTableEntryBytes, "active L1 table");
  metadata.add(header.refcount_table_offset,
               uint64_t{header.refcount_table_clusters} << header.cluster_bits, "refcount table");
  for (const RefcountTableEntry entry : run.refcount_table) {
    if (entry.has_block()) {
      metadata.add(entry.block_offset(), header.cluster_size(), "refcount block");
    }
  }
  metadata.add(header.snapshot_table_offset, run.snapshots.table.size, "snapshot table");
  for (const Snapshot& snapshot : run.snapshots.table.snapshots) {
    metadata.add(snapshot.l1_table_offset, snapshot.l1_entries * kTableEntryBytes,
                 "inactive L1 table");
  }
  if (const auto& bitmaps = header.extensions.bitmaps) {
    metadata.add(bitmaps->directory_offset, bitmaps->directory_size, "bitmap directory");
  }
  metadata.sort();
}

Task<Result<void>> count(Run& run) {
  CheckContext& context = run.context;
  CO_RETURN_IF_ERROR(context.measure_file());
  context.counts = {};
  context.beyond_file = {};
  context.has_lost_track = false;
  context.needs_rebuild = false;
  CO_RETURN_IF_ERROR(co_await read_refcount_table(run));
  if (context.mode != RepairMode::kNone) collect_metadata(run);
  CO_ASSIGN_OR_RETURN(run.is_snapshot_table_counted,
                      co_await count_references(context, run.snapshots.table, run.refcount_table));
  context.beyond_file.sort();
  co_return ok();
}

Task<Result<void>> compare(Run& run, RepairMode mode) {
  StoredRefcounts stored(run.context, run.refcount_table);
  CO_RETURN_IF_ERROR(co_await compare_refcounts(run.context, stored, mode));
  co_return ok();
}

/// New refcount structures, then a look at them. What they counted in vain, the old structures, is
/// freed; those are no leaks that anybody had before.
Task<Result<void>> rebuild(Run& run, uint64_t check_errors_before) {
  CheckContext& context = run.context;
  context.say("Rebuilding refcount structure");
  CO_RETURN_IF_ERROR(co_await context.flush());
  CO_RETURN_IF_ERROR(co_await rebuild_refcounts(context, run.header));

  const CheckReport before = std::exchange(context.report, {});
  context.report.total_clusters = before.total_clusters;
  context.report.corruptions_fixed = before.corruptions_fixed;
  // Blocks that could not be read are no part of the image any more.
  context.report.check_errors = check_errors_before;
  CO_RETURN_IF_ERROR(co_await count(run));
  const CheckReport counted = context.report;
  CO_RETURN_IF_ERROR(co_await compare(run, RepairMode::kLeaks));
  context.report = counted;
  CO_RETURN_IF_ERROR(co_await compare(run, RepairMode::kNone));
  if (context.needs_rebuild) {
    context.say("ERROR rebuilt refcount structure is still broken");
    co_return Error(EIO, "");
  }
  const auto add_fixed = [](uint64_t& fixed, uint64_t old_count, uint64_t new_count) {
    if (new_count < old_count) fixed += old_count - new_count;
  };
  add_fixed(context.report.corruptions_fixed, before.corruptions, context.report.corruptions);
  add_fixed(context.report.leaks_fixed, before.leaks, context.report.leaks);
  co_return ok();
}

/// Counts, compares, and sets right the refcounts and the copied bits.
Task<Result<void>> check_refcounts(Run& run) {
  CheckContext& context = run.context;
  CO_RETURN_IF_ERROR(co_await count(run));
  const CheckReport counted = context.report;
  StoredRefcounts stored(context, run.refcount_table);
  CO_RETURN_IF_ERROR(co_await compare_refcounts(context, stored, RepairMode::kNone));
  if (context.mode == RepairMode::kNone) {
    CO_RETURN_IF_ERROR(co_await check_copied_bits(context, stored, false));
    co_return ok();
  }
  if (context.needs_rebuild && !context.may_repair_errors()) {
    context.say("ERROR need to rebuild refcount structures");
    co_return Error(EIO, "");
  }
  // Entries that refer to less than before are on disk before the counts go down.
  CO_RETURN_IF_ERROR(co_await context.flush());
  if (context.needs_rebuild) {
    CO_RETURN_IF_ERROR(co_await rebuild(run, counted.check_errors));
  } else if (context.report.leaks != 0 || context.report.corruptions != 0) {
    context.report = counted;
    CO_RETURN_IF_ERROR(co_await compare(run, context.mode));
  }
  CO_RETURN_IF_ERROR(co_await context.flush());
  const CheckReport& report = context.report;
  const bool is_sound = report.check_errors == 0 && report.corruptions == 0 && report.leaks == 0;
  StoredRefcounts repaired(context, run.refcount_table);
  CO_RETURN_IF_ERROR(
      co_await check_copied_bits(context, repaired, context.may_repair_errors() || is_sound));
  CO_RETURN_IF_ERROR(co_await context.flush());
  co_return ok();
}

Task<Result<void>> repair_snapshot_table(Run& run) {
  CheckContext& context = run.context;
  CO_RETURN_IF_ERROR(context.measure_file());
  Result<void> replaced = ok();
  if (run.snapshots.overhanging == run.snapshots.corruptions) {
    replaced = co_await drop_overhanging_snapshots(context, run.header, run.snapshots);
  } else {
    replaced = co_await replace_snapshot_table(context, run.header, run.snapshots,
                                               run.is_snapshot_table_counted);
  }
  if (!replaced) {
    const int code = replaced.error().code();
    context.say("ERROR failed to update snapshot table: " + errno_text(code));
    co_return Error(code, "");
  }
  context.report.corruptions_fixed += std::exchange(run.snapshots.corruptions, 0);
  CO_RETURN_IF_ERROR(co_await context.flush());
  co_return ok();
}

Task<Result<void>> write_feature_bits(Run& run, uint64_t incompatible, uint64_t autoclear) {
  Header& header = run.header;
  // Version 2 has no such bits.
  if (header.version < 3) co_return ok();
  if (incompatible == header.incompatible_features && autoclear == header.autoclear_features) {
    co_return ok();
  }
  std::array<std::byte, 24> bits;
  store_be(bits.data(), incompatible);
  store_be(bits.data() + 8, header.compatible_features);
  store_be(bits.data() + 16, autoclear);
  CO_RETURN_IF_ERROR(
      co_await run.context.write(HostOffset(offsetof(RawHeader, incompatible_features)), bits));
  CO_RETURN_IF_ERROR(co_await run.context.flush());
  header.incompatible_features = incompatible;
  header.autoclear_features = autoclear;
  co_return ok();
}

Task<Result<void>> check_all(Run& run) {
  CheckContext& context = run.context;
  const bool may_repair = context.mode != RepairMode::kNone;
  if (may_repair) {
    CO_RETURN_IF_ERROR(co_await write_feature_bits(
        run, run.header.incompatible_features, run.header.autoclear_features & kAutoclearKnown));
  }
  CO_RETURN_IF_ERROR(co_await check_snapshot_table(run));
  context.report.total_clusters =
      clusters_for(run.header.guest_size(), run.header.cluster_bits).value();
  if (context.may_repair_errors()) {
    CO_RETURN_IF_ERROR(context.measure_file());
    CO_ASSIGN_OR_RETURN(const uint64_t removed,
                        co_await remove_damaged_bitmaps(context, run.header));
    context.report.corruptions_fixed += removed;
  }
  CO_RETURN_IF_ERROR(co_await check_refcounts(run));
  if (context.may_repair_errors() && run.snapshots.corruptions != 0) {
    CO_RETURN_IF_ERROR(co_await repair_snapshot_table(run));
  }
  context.report.corruptions += run.snapshots.corruptions;
  if (may_repair && context.report.check_errors == 0 && context.report.corruptions == 0) {
    constexpr uint64_t kRepaired = kIncompatDirty | kIncompatCorrupt;
    CO_RETURN_IF_ERROR(co_await write_feature_bits(
        run, run.header.incompatible_features & ~kRepaired, run.header.autoclear_features));
  }
  co_return ok();
}

}  // namespace

Task<Result<CheckReport>> check(File& file, const Header& header, const CheckSink& sink) {
  Header unchanged = header;
  Run run{CheckContext(file, unchanged, RepairMode::kNone, sink), unchanged, {}, false, {}};
  CO_RETURN_IF_ERROR(co_await check_all(run));
  co_return run.context.report;
}

Task<Result<CheckReport>> repair(File& file, Header& header, RepairMode mode,
                                 const CheckSink& sink) {
  Run run{CheckContext(file, header, mode, sink), header, {}, false, {}};
  auto checked = co_await check_all(run);
  if (!checked) {
    if (run.context.has_found_overlap) {
      CO_RETURN_IF_ERROR(co_await write_feature_bits(
          run, header.incompatible_features | kIncompatCorrupt, header.autoclear_features));
    }
    co_return std::move(checked).error();
  }
  co_return run.context.report;
}

}  // namespace imgconv::qcow2
