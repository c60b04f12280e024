#include "formats/qcow2/measure.h"

#include <fmt/format.h>

#include <cerrno>
#include <string>

#include "formats/qcow2/create_options.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/refcount_space.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

constexpr uint64_t kDefaultClusterSize = 64 * kKiB;
constexpr uint64_t kDefaultRefcountBits = 16;

struct MeasureOptions {
  unsigned cluster_bits = 16;
  unsigned refcount_order = 4;
  bool has_extended_l2 = false;
  bool has_backing_file = false;
  Preallocation preallocation = Preallocation::kOff;
};

/// Only what matters for the size is looked at, and the level must have its old names: QEMU's
/// measure is like that.
Result<MeasureOptions> parse_measure_options(const OptionValues& options) {
  MeasureOptions parsed;
  ASSIGN_OR_RETURN(
      parsed.cluster_bits,
      parse_cluster_bits(options.number("cluster_size").value_or(kDefaultClusterSize)));
  parsed.has_extended_l2 = options.boolean("extended_l2").value_or(false);
  if (parsed.has_extended_l2) RETURN_IF_ERROR(check_extended_l2_cluster(parsed.cluster_bits));
  const std::string compat = options.string("compat").value_or("1.1");
  if (compat != "1.1" && compat != "0.10") {
    return Error(EINVAL, fmt::format("Invalid compatibility level: '{}'", compat));
  }
  const uint64_t refcount_bits = options.number("refcount_bits").value_or(kDefaultRefcountBits);
  ASSIGN_OR_RETURN(parsed.refcount_order, parse_refcount_order(refcount_bits));
  if (compat == "0.10" && refcount_bits != kDefaultRefcountBits) {
    return Error(EINVAL,
                 "Different refcount widths than 16 bits require compatibility level 1.1 or above "
                 "(use compat=1.1 or greater)");
  }
  const std::string preallocation = options.string("preallocation").value_or("off");
  const std::optional<Preallocation> mode = find_preallocation(preallocation);
  if (!mode) return Error(EINVAL, "invalid parameter value: " + preallocation);
  parsed.preallocation = *mode;
  parsed.has_backing_file = options.has("backing_file");
  return parsed;
}

/// Bytes of target clusters that hold data of the source. A cluster is counted once when data
/// begins in it; what else it holds is then not looked at, as QEMU does.
uint64_t bytes_with_data(const std::vector<MeasureRange>& ranges, uint64_t cluster_size) {
  uint64_t bytes = 0;
  uint64_t position = 0;
  for (const MeasureRange& range : ranges) {
    const uint64_t range_end = range.guest_offset + range.length;
    if (range_end <= position) continue;
    if (position < range.guest_offset) position = range.guest_offset;
    if (range.is_data) {
      const uint64_t end = round_up(range_end, cluster_size);
      bytes += end - round_down(position, cluster_size);
      position = end;
    } else {
      position = range_end;
    }
  }
  return bytes;
}

}  // namespace

Result<MeasureReport> measure(const CreateImageOptions& options,
                              const std::vector<MeasureRange>& ranges) {
  ASSIGN_OR_RETURN(const MeasureOptions parsed, parse_measure_options(options.options));
  const uint64_t cluster_size = uint64_t{1} << parsed.cluster_bits;
  constexpr uint64_t kMaxDisk = uint64_t{1} << 63;
  const Error too_large(EFBIG, "The image size is too large (try using a larger cluster size)");
  if (options.virtual_size > kMaxDisk) return too_large;
  const uint64_t disk_bytes = round_up(options.virtual_size, cluster_size);

  const uint64_t l2_entries = cluster_size / (parsed.has_extended_l2 ? 16 : 8);
  const uint64_t l1_entries = div_round_up(disk_bytes >> parsed.cluster_bits, l2_entries);
  if (l1_entries * kTableEntryBytes > kMaxL1Bytes) return too_large;
  const uint64_t l2_bytes = l1_entries << parsed.cluster_bits;
  const uint64_t l1_bytes = round_up(l1_entries * kTableEntryBytes, cluster_size);
  const uint64_t others = cluster_size + l2_bytes + l1_bytes + disk_bytes;
  const RefcountSpace refcounts =
      refcount_space(others >> parsed.cluster_bits, parsed.cluster_bits, parsed.refcount_order);

  const bool needs_all = parsed.preallocation >= Preallocation::kFalloc ||
                         (parsed.has_backing_file && !ranges.empty());
  const uint64_t data_bytes = needs_all ? disk_bytes : bytes_with_data(ranges, cluster_size);
  MeasureReport report;
  report.fully_allocated =
      others + ((refcounts.blocks + refcounts.table_clusters) << parsed.cluster_bits);
  report.required = report.fully_allocated - disk_bytes + data_bytes;
  return report;
}

}  // namespace imgconv::qcow2
