#include "formats/qcow2/check_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "formats/byteorder.h"
#include "formats/qcow2/check_references.h"
#include "formats/qcow2/on_disk.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

/// Entries of tables walked before that are walked again: about a second. QEMU has no limit.
constexpr uint64_t kMaxRepeatedEntries = uint64_t{1} << 26;
/// L1 entries read at a time when what was postponed is counted.
constexpr uint64_t kL1PieceEntries = 4096;

}  // namespace

/// One table is the unit in which QEMU looks for fragments.
struct TableCounter::L2Walk {
  CheckContext& context;
  Weight weight;
  HostOffset table_offset;
  std::span<std::byte> table;
  std::optional<uint64_t> next_contiguous;
  /// Entries changed in `table` by a repair, to be written.
  std::vector<uint64_t> zeroed_entries;
};

bool TableCounter::may_repeat(uint64_t entries) {
  if (repeated_entries_ > kMaxRepeatedEntries) return false;
  repeated_entries_ += entries;
  return true;
}

/// Preallocated space that cannot be where the entry says is given up: the cluster reads as zeros,
/// as before.
Result<void> TableCounter::zero_l2_entry(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const uint64_t entry_bytes = context.header.l2_entry_bytes();
  if (!context.check_overlap(walk.table_offset + index * entry_bytes, entry_bytes)) {
    context.say("ERROR: Overlap check failed");
    return Error::from_errno(EIO);
  }
  std::byte* const place = &walk.table[index * entry_bytes];
  if (context.header.has_extended_l2()) {
    store_be(place, uint64_t{0});
    store_be(place + 8, uint64_t{entry.bitmap().zero_mask()} << 32);
  } else {
    store_be(place, L2Entry::zero_plain().raw());
  }
  walk.zeroed_entries.push_back(index);
  return ok();
}

void TableCounter::count_compressed(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const unsigned bits = context.header.cluster_bits;
  const CompressedLocation location = entry.compressed_location(bits);
  uint64_t raw = entry.raw();
  if (entry.is_copied()) {
    context.corruption(
        fmt::format("ERROR: coffset={:#x}: copied flag must never be set for compressed clusters",
                    location.offset.bytes()));
    raw &= ~kCopiedBit;
  }
  if (context.header.has_data_file()) {
    context.corruption(
        fmt::format("ERROR compressed cluster {} with data file, entry={:#x}", index, raw));
    return;
  }
  if (entry.bitmap().raw() != 0) {
    context.corruption(fmt::format(
        "ERROR compressed cluster {} with non-zero subcluster allocation bitmap, entry={:#x}",
        index, raw));
    return;
  }
  context.add_references(location.offset, location.length, walk.weight.references);
  context.report.allocated_clusters += walk.weight.active;
  context.report.compressed_clusters += walk.weight.active;
  context.report.fragmented_clusters += walk.weight.active;
}

/// True when the entry now refers to nothing.
Result<bool> TableCounter::check_alignment(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const Header& header = context.header;
  const HostOffset offset = entry.host_offset();
  if (is_cluster_aligned(offset, header.cluster_bits)) return false;
  const bool has_data = header.has_extended_l2() ? entry.bitmap().allocated_mask() != 0
                                                 : (entry.raw() & kZeroBit) == 0;
  const bool is_repairable = !has_data && context.may_repair_errors();
  context.say(fmt::format("{} offset={:x}: {} cluster is not properly aligned; L2 entry corrupted.",
                          is_repairable ? "Repairing" : "ERROR", offset.bytes(),
                          has_data ? "Data" : "Preallocated"));
  if (!is_repairable) {
    ++context.report.corruptions;
    return false;
  }
  RETURN_IF_ERROR(zero_l2_entry(walk, entry, index));
  ++context.report.corruptions_fixed;
  return true;
}

Result<void> TableCounter::count_allocated(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const Header& header = context.header;
  const HostOffset offset = entry.host_offset();
  if (entry.bitmap().has_contradiction()) {
    context.corruption(fmt::format(
        "ERROR offset={:x}: Allocated cluster has corrupted subcluster allocation bitmap",
        offset.bytes()));
  }
  ASSIGN_OR_RETURN(const bool is_gone, check_alignment(walk, entry, index));
  if (is_gone) return ok();
  context.report.allocated_clusters += walk.weight.active;
  if (walk.next_contiguous && *walk.next_contiguous != 0 &&
      offset.bytes() != *walk.next_contiguous) {
    context.report.fragmented_clusters += walk.weight.active;
  }
  walk.next_contiguous = offset.bytes() + header.cluster_size();
  if (!header.has_data_file()) {
    context.add_references(offset, header.cluster_size(), walk.weight.references);
  }
  return ok();
}

Result<void> TableCounter::count_l2_entry(L2Walk& walk, const L2Entry& entry, uint64_t index) {
  CheckContext& context = walk.context;
  const ClusterType type = entry.type(context.header.l2_format());
  if (type != ClusterType::kCompressed && entry.reserved_bits() != 0) {
    context.corruption(
        fmt::format("ERROR found l2 entry with reserved bits set: {:x}", entry.raw()));
  }
  switch (type) {
    case ClusterType::kCompressed:
      count_compressed(walk, entry, index);
      break;
    case ClusterType::kZeroAllocated:
    case ClusterType::kNormal:
      return count_allocated(walk, entry, index);
    case ClusterType::kUnallocated:
      if (entry.bitmap().allocated_mask() != 0) {
        context.corruption("ERROR: Unallocated cluster has non-zero subcluster allocation map");
      }
      break;
    case ClusterType::kZeroPlain:
      break;
  }
  return ok();
}

Task<Result<void>> TableCounter::write_zeroed_entries(L2Walk& walk) {
  CheckContext& context = walk.context;
  const uint64_t entry_bytes = context.header.l2_entry_bytes();
  for (const uint64_t index : walk.zeroed_entries) {
    const auto bytes = walk.table.subspan(index * entry_bytes, entry_bytes);
    auto written = co_await context.write(walk.table_offset + index * entry_bytes, bytes);
    if (!written) {
      context.say("ERROR: Failed to overwrite L2 table entry: " + written.error().text());
      co_return Error(written.error().code(), "");
    }
  }
  co_return ok();
}

Task<Result<void>> TableCounter::count_l2(HostOffset offset, Weight weight) {
  // Behind the end of the file are only zeros.
  if (offset.bytes() >= context_.file_length) co_return ok();
  auto read = co_await context_.read(offset, l2_buffer_);
  if (!read) {
    context_.say("ERROR: I/O error in check_refcounts_l2");
    co_return Error(read.error().code(), "");
  }
  L2Walk walk{context_, weight, offset, l2_buffer_, {}, {}};
  const uint64_t entries = context_.header.l2_entries();
  const bool is_extended = context_.header.has_extended_l2();
  for (uint64_t i = 0; i < entries; ++i) {
    const L2Entry entry = load_l2_entry(l2_buffer_, i, is_extended);
    if (entry.raw() == 0 && entry.bitmap().raw() == 0) continue;
    auto counted = count_l2_entry(walk, entry, i);
    if (!counted) co_return Error(counted.error().code(), "");
  }
  CO_RETURN_IF_ERROR(co_await write_zeroed_entries(walk));
  co_return ok();
}

Task<Result<void>> TableCounter::count_l1_entry(L1Entry entry, Weight weight) {
  const Header& header = context_.header;
  if (entry.reserved_bits() != 0) {
    context_.corruption(
        fmt::format("ERROR found L1 entry with reserved bits set: {:x}", entry.raw()));
  }
  const HostOffset l2_offset = entry.table_offset();
  context_.add_references(l2_offset, header.cluster_size(), weight.references);
  if (!is_cluster_aligned(l2_offset, header.cluster_bits)) {
    context_.corruption(
        fmt::format("ERROR l2_offset={:x}: Table is not cluster aligned; L1 entry corrupted",
                    l2_offset.bytes()));
  }
  const auto [known, is_new] = l2_tables_.try_emplace(l2_offset.bytes());
  if (weight.references == 1 && (is_new || may_repeat(header.l2_entries()))) {
    CO_RETURN_IF_ERROR(co_await count_l2(l2_offset, weight));
  } else {
    known->second.references += weight.references;
    known->second.active += weight.active;
  }
  co_return ok();
}

Task<Result<void>> TableCounter::count_l1(HostOffset offset, uint32_t entries, uint64_t active) {
  if (entries == 0) co_return ok();
  context_.add_references(offset, entries * kTableEntryBytes);
  auto l1 = co_await read_table(context_, offset, entries);
  if (!l1) {
    context_.say("ERROR: I/O error in check_refcounts_l1");
    co_return Error(l1.error().code(), "");
  }
  for (const uint64_t raw : *l1) {
    if (raw == 0) continue;
    CO_RETURN_IF_ERROR(co_await count_l1_entry(L1Entry(raw), Weight{1, active}));
  }
  co_return ok();
}

Task<Result<void>> TableCounter::count_active_l1() {
  const Header& header = context_.header;
  CO_RETURN_IF_ERROR(co_await count_l1(header.l1_table_offset, header.l1_entries, 1));
  co_return ok();
}

Task<Result<void>> TableCounter::count_snapshot_l1(HostOffset offset, uint32_t entries) {
  if (may_repeat(entries)) {
    CO_RETURN_IF_ERROR(co_await count_l1(offset, entries, 0));
  } else {
    postponed_l1_.push_back({offset, entries});
  }
  co_return ok();
}

Task<Result<void>> TableCounter::count_l1_slots(uint64_t begin, uint64_t end, uint64_t weight) {
  end = std::min(end, round_up(context_.file_length, kTableEntryBytes));
  while (begin < end) {
    const uint64_t entries = std::min((end - begin) / kTableEntryBytes, kL1PieceEntries);
    CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> piece,
                        co_await read_table(context_, HostOffset(begin), entries));
    for (const uint64_t raw : piece) {
      if (raw == 0) continue;
      CO_RETURN_IF_ERROR(co_await count_l1_entry(L1Entry(raw), Weight{weight, 0}));
    }
    begin += entries * kTableEntryBytes;
  }
  co_return ok();
}

/// The tables may be the same, or overlap: each place is read once, weighted by how many tables it
/// belongs to.
Task<Result<void>> TableCounter::count_postponed_l1() {
  const unsigned bits = context_.header.cluster_bits;
  // What changes at an offset: tables that begin or end there, in entries and in clusters.
  std::vector<std::pair<uint64_t, int64_t>> slot_changes;
  std::vector<std::pair<uint64_t, int64_t>> cluster_changes;
  for (const PostponedL1& l1 : postponed_l1_) {
    const uint64_t begin = l1.offset.bytes();
    const uint64_t end = begin + l1.entries * kTableEntryBytes;
    slot_changes.insert(slot_changes.end(), {{begin, 1}, {end, -1}});
    const uint64_t cluster_end = clusters_for(end, bits).bytes(bits);
    cluster_changes.insert(cluster_changes.end(), {{begin, 1}, {cluster_end, -1}});
  }
  std::ranges::sort(slot_changes);
  std::ranges::sort(cluster_changes);
  int64_t weight = 0;
  for (size_t i = 0; i + 1 < cluster_changes.size(); ++i) {
    weight += cluster_changes[i].second;
    const auto [begin, end] = std::pair(cluster_changes[i].first, cluster_changes[i + 1].first);
    if (weight > 0 && begin < end) {
      context_.add_references(HostOffset(begin), end - begin, static_cast<uint64_t>(weight));
    }
  }
  weight = 0;
  for (size_t i = 0; i + 1 < slot_changes.size(); ++i) {
    weight += slot_changes[i].second;
    const auto [begin, end] = std::pair(slot_changes[i].first, slot_changes[i + 1].first);
    if (weight <= 0 || begin == end) continue;
    CO_RETURN_IF_ERROR(co_await count_l1_slots(begin, end, static_cast<uint64_t>(weight)));
  }
  co_return ok();
}

Task<Result<void>> TableCounter::count_postponed() {
  CO_RETURN_IF_ERROR(co_await count_postponed_l1());
  for (const auto& [offset, weight] : l2_tables_) {
    if (weight.references == 0) continue;
    CO_RETURN_IF_ERROR(co_await count_l2(HostOffset(offset), weight));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
