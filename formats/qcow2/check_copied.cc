#include "formats/qcow2/check_copied.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "formats/qcow2/check_references.h"
#include "loop/try.h"

namespace imgconv::qcow2 {
namespace {

struct CopiedBits {
  CheckContext& context;
  StoredRefcounts& stored;
  bool may_repair = false;
};

/// An L2 table that L1 entries share is looked at again and again, as in QEMU, but not forever.
constexpr uint64_t kMaxRepeatedEntries = uint64_t{1} << 26;

/// True when the bit is wrong, which then has been said. A repair is not counted before it was
/// written.
bool is_wrong(const CopiedBits& walk, bool is_copied, uint64_t refcount, const std::string& what) {
  if ((refcount == 1) == is_copied) return false;
  walk.context.say(fmt::format("{} OFLAG_COPIED {} refcount={}",
                               walk.may_repair ? "Repairing" : "ERROR", what, refcount));
  if (!walk.may_repair) ++walk.context.report.corruptions;
  return true;
}

/// Nothing when the count cannot be read; compare_refcounts() reported that.
Task<std::optional<uint64_t>> refcount_of(StoredRefcounts& stored, HostCluster cluster) {
  if (stored.has_loaded(cluster)) co_return stored.loaded(cluster);
  auto count = co_await stored.get(cluster);
  if (!count) co_return std::nullopt;
  co_return *count;
}

/// Returns how many entries of `table` were changed.
Task<uint64_t> check_l2_entries(const CopiedBits& walk, std::span<std::byte> table) {
  const Header& header = walk.context.header;
  const L2Format format = header.l2_format();
  const uint64_t entries = header.l2_entries();
  uint64_t changed = 0;
  for (uint64_t i = 0; i < entries; ++i) {
    const L2Entry entry = load_l2_entry(table, i, format.is_extended);
    const ClusterType type = entry.type(format);
    if (type != ClusterType::kNormal && type != ClusterType::kZeroAllocated) continue;
    std::optional<uint64_t> refcount = 1;
    if (!format.has_data_file) {
      const HostCluster cluster = containing_cluster(entry.host_offset(), format.cluster_bits);
      if (walk.stored.has_loaded(cluster)) {
        refcount = walk.stored.loaded(cluster);
      } else {
        refcount = co_await refcount_of(walk.stored, cluster);
      }
    }
    if (!refcount || (*refcount == 1) == entry.is_copied()) continue;
    const std::string what = fmt::format("data cluster: l2_entry={:x}", entry.raw());
    if (is_wrong(walk, entry.is_copied(), *refcount, what) && walk.may_repair) {
      store_be(&table[i * header.l2_entry_bytes()], entry.raw() ^ kCopiedBit);
      ++changed;
    }
  }
  co_return changed;
}

Task<Result<void>> check_l2(const CopiedBits& walk, HostOffset offset, std::span<std::byte> table) {
  CheckContext& context = walk.context;
  auto read = co_await context.read(offset, table);
  if (!read) {
    context.say("ERROR: I/O error in check_oflag_copied");
    co_return Error(read.error().code(), "");
  }
  const uint64_t changed = co_await check_l2_entries(walk, table);
  if (changed == 0) co_return ok();
  auto done = context.check_overlap(offset, table.size());
  const bool may_write = done.has_value();
  if (may_write) done = co_await context.write(offset, table);
  if (!done) {
    context.report.corruptions += changed;
    context.say(fmt::format(
        "ERROR: Could not write L2 table; {}{}",
        may_write ? "" : "metadata overlap check failed: ", errno_text(done.error().code())));
    co_return Error(done.error().code(), "");
  }
  context.report.corruptions_fixed += changed;
  co_return ok();
}

/// Clusters of the L1 table that L1 entries take for L2 tables.
std::unordered_set<uint64_t> l1_clusters_used_as_l2(const Header& header,
                                                    std::span<const uint64_t> l1) {
  std::unordered_set<uint64_t> clusters;
  const uint64_t begin = header.l1_table_offset.bytes();
  for (const uint64_t raw : l1) {
    const uint64_t table = L1Entry(raw).table_offset().bytes();
    if (table < begin || table - begin >= l1.size_bytes()) continue;
    const HostCluster first = containing_cluster(HostOffset(table), header.cluster_bits);
    clusters.insert(first.index());
    if (!is_cluster_aligned(HostOffset(table), header.cluster_bits)) {
      clusters.insert(first.index() + 1);
    }
  }
  return clusters;
}

Task<Result<void>> write_l1_entry(CheckContext& context, HostOffset offset, L1Entry entry,
                                  const std::unordered_set<uint64_t>& forbidden_clusters) {
  if (forbidden_clusters.contains(
          containing_cluster(offset, context.header.cluster_bits).index())) {
    co_return context.refuse_overlap("active L2 table");
  }
  std::array<std::byte, 8> bytes;
  store_be(bytes.data(), entry.raw());
  CO_RETURN_IF_ERROR(co_await context.write(offset, bytes));
  co_return ok();
}

}  // namespace

Task<Result<void>> check_copied_bits(CheckContext& context, StoredRefcounts& stored,
                                     bool may_repair) {
  const Header& header = context.header;
  const CopiedBits walk{context, stored, may_repair};
  CO_ASSIGN_OR_RETURN(const std::vector<uint64_t> l1,
                      co_await read_table(context, header.l1_table_offset, header.l1_entries));
  const std::unordered_set<uint64_t> forbidden_clusters = l1_clusters_used_as_l2(header, l1);
  std::vector<std::byte> table(header.cluster_size());
  std::unordered_set<uint64_t> seen;
  uint64_t repeated = 0;
  for (size_t i = 0; i < l1.size(); ++i) {
    const L1Entry entry(l1[i]);
    if (!entry.has_table()) continue;
    const auto refcount =
        co_await refcount_of(stored, containing_cluster(entry.table_offset(), header.cluster_bits));
    if (!refcount) continue;
    const std::string what = fmt::format("L2 cluster: l1_index={} l1_entry={:x}", i, entry.raw());
    if (is_wrong(walk, entry.is_copied(), *refcount, what) && may_repair) {
      auto written = co_await write_l1_entry(context, header.l1_table_offset + i * kTableEntryBytes,
                                             L1Entry(entry.raw() ^ kCopiedBit), forbidden_clusters);
      if (!written) co_return Error(written.error().code(), "");
      ++context.report.corruptions_fixed;
    }
    if (entry.table_offset().bytes() >= context.file_length) continue;
    const bool is_new = seen.insert(entry.table_offset().bytes()).second;
    if (!is_new) repeated += header.l2_entries();
    if (!is_new && repeated > kMaxRepeatedEntries) continue;
    CO_RETURN_IF_ERROR(co_await check_l2(walk, entry.table_offset(), table));
  }
  co_return ok();
}

}  // namespace imgconv::qcow2
