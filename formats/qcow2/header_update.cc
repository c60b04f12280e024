#include "formats/qcow2/header_update.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "formats/byteorder.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

namespace {

using Bytes = std::vector<std::byte>;

/// Bytes up to the last that is not zero, in whole sectors.
uint64_t used_bytes(std::span<const std::byte> cluster) {
  uint64_t used = cluster.size();
  while (used > 0 && cluster[used - 1] == std::byte{0}) --used;
  return round_up(used, kSectorSize);
}

/// Do they differ in no more than one sector?
bool is_small_change(std::span<const std::byte> a, std::span<const std::byte> b) {
  const auto first = std::ranges::mismatch(a, b).in1;
  if (first == a.end()) return true;
  const auto same_at_end = std::mismatch(a.rbegin(), a.rend(), b.rbegin()).first;
  const auto first_at = static_cast<uint64_t>(first - a.begin());
  const auto last_at = static_cast<uint64_t>(a.rend() - same_at_end) - 1;
  return first_at / kSectorSize == last_at / kSectorSize;
}

Task<Result<void>> write_step(File& file, uint64_t host_offset, std::span<const std::byte> bytes) {
  CO_RETURN_IF_ERROR(co_await file.write(host_offset, bytes));
  co_return co_await file.flush();
}

/// The fields of `cluster`, whose extensions and backing file name stand at `shadow` instead.
Bytes fields_for_shadow(std::span<const std::byte> cluster, uint64_t shadow) {
  auto raw = load_struct<RawHeader>(cluster);
  const uint64_t distance = shadow - raw.header_length.get();
  if (raw.backing_file_offset.get() != 0) {
    raw.backing_file_offset = raw.backing_file_offset.get() + distance;
  }
  raw.header_length = static_cast<uint32_t>(shadow);
  Bytes sector(cluster.begin(), cluster.begin() + kSectorSize);
  store_struct(std::span(sector), raw);
  return sector;
}

/// By a copy further back in the cluster, to which the fields point while the place of the header
/// is written. header_length says where the extensions begin, so that any place will do.
Task<Result<void>> write_by_shadow(File& file, std::span<const std::byte> cluster,
                                   uint64_t shadow) {
  const uint64_t begin = load_struct<RawHeader>(cluster).header_length.get();
  const uint64_t used = used_bytes(cluster);
  const auto tail = cluster.subspan(begin, used - begin);
  CO_RETURN_IF_ERROR(co_await write_step(file, shadow, tail));
  const Bytes fields = fields_for_shadow(cluster, shadow);
  CO_RETURN_IF_ERROR(co_await write_step(file, 0, fields));
  CO_RETURN_IF_ERROR(
      co_await write_step(file, kSectorSize, cluster.subspan(kSectorSize, shadow - kSectorSize)));
  CO_RETURN_IF_ERROR(co_await write_step(file, 0, cluster.first(kSectorSize)));
  // Nothing refers to the copy any more.
  CO_RETURN_IF_ERROR(co_await file.write(shadow, cluster.subspan(shadow)));
  co_return ok();
}

}  // namespace

Task<Result<void>> update_header(File& file, const Header& header) {
  CO_ASSIGN_OR_RETURN(const Bytes cluster, header.serialize());
  Bytes old(cluster.size());
  CO_RETURN_IF_ERROR(co_await file.read(0, old));
  const uint64_t used = used_bytes(cluster);
  const uint64_t shadow = std::max(used, used_bytes(old));
  const bool has_room = shadow + used <= cluster.size();
  if (header.version >= 3 && has_room && !is_small_change(old, cluster)) {
    CO_RETURN_IF_ERROR(co_await write_by_shadow(file, cluster, shadow));
    co_return ok();
  }
  CO_RETURN_IF_ERROR(co_await write_step(file, 0, cluster));
  co_return ok();
}

Task<Result<void>> clear_unknown_features(File& file, Header& header) {
  const uint64_t kept = header.autoclear_features & kAutoclearKnown;
  const bool drops_bitmaps = std::exchange(header.extensions.has_inconsistent_bitmaps, false);
  if (kept == header.autoclear_features && !drops_bitmaps) co_return ok();
  header.autoclear_features = kept;
  CO_RETURN_IF_ERROR(co_await update_header(file, header));
  co_return ok();
}

}  // namespace imgconv::qcow2
