#include "formats/qcow2/make_empty.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <vector>

#include "formats/qcow2/corruption.h"
#include "formats/qcow2/metadata.h"
#include "formats/qcow2/refcount_width.h"
#include "loop/units.h"

namespace imgconv::qcow2 {
namespace {

/// What stays of an image that is cut back: the clusters of its tables, ascending, and the refcount
/// blocks that count them.
class Remains {
 public:
  Remains(const Header& header, std::vector<RefcountTableEntry> table)
      : header_(header), table_(std::move(table)), is_kept_(table_.size()) {
    add_range(HostOffset(0), 1);
    add_range(header.refcount_table_offset, header.refcount_table_clusters);
    add_range(header.l1_table_offset,
              clusters_for(header.l1_entries * kTableEntryBytes, header.cluster_bits).value());
  }

  /// Keeps the blocks that are needed to count what is kept, themselves included.
  Result<void> keep_blocks() {
    // clusters_ grows while it is walked.
    for (size_t i = 0; i < clusters_.size(); ++i) {
      const uint64_t block = clusters_[i] / header_.refcount_block_entries();
      if (block >= table_.size() || !table_[block].has_block()) {
        return corruption("Metadata without a refcount block");
      }
      if (is_kept_[block]) continue;
      is_kept_[block] = true;
      const HostOffset offset = table_[block].block_offset();
      if (!is_cluster_aligned(offset, header_.cluster_bits)) {
        return corruption("Refcount block offset is not aligned");
      }
      add_range(offset, 1);
    }
    std::sort(clusters_.begin(), clusters_.end());
    return ok();
  }

  const std::vector<RefcountTableEntry>& table() const { return table_; }
  bool is_kept(uint64_t block) const { return is_kept_[block]; }
  uint64_t end_offset() const { return (clusters_.back() + 1) << header_.cluster_bits; }

  /// The block as it is to be: 1 for each cluster that is kept.
  std::vector<std::byte> block_bytes(uint64_t block) const {
    std::vector<std::byte> bytes(header_.cluster_size());
    const uint64_t first = block * header_.refcount_block_entries();
    const uint64_t end = first + header_.refcount_block_entries();
    auto cluster = std::lower_bound(clusters_.begin(), clusters_.end(), first);
    for (; cluster != clusters_.end() && *cluster < end; ++cluster) {
      store_refcount(bytes.data(), *cluster - first, header_.refcount_order, 1);
    }
    return bytes;
  }

 private:
  void add_range(HostOffset offset, uint64_t clusters) {
    const uint64_t first = offset.bytes() >> header_.cluster_bits;
    for (uint64_t i = 0; i < clusters; ++i) clusters_.push_back(first + i);
  }

  const Header& header_;
  const std::vector<RefcountTableEntry> table_;
  std::vector<bool> is_kept_;
  std::vector<uint64_t> clusters_;
};

Task<Result<std::vector<RefcountTableEntry>>> read_refcount_table(TableIo& io,
                                                                  const Header& header) {
  std::vector<std::byte> bytes(header.refcount_table_entries() * kTableEntryBytes);
  CO_RETURN_IF_ERROR(co_await io.read_one(header.refcount_table_offset.bytes(), bytes));
  std::vector<RefcountTableEntry> table;
  table.reserve(header.refcount_table_entries());
  for (uint64_t i = 0; i < header.refcount_table_entries(); ++i) {
    table.emplace_back(load_be<uint64_t>(bytes.data() + i * kTableEntryBytes));
  }
  co_return table;
}

/// The refcount table without the blocks that are not kept.
Task<Result<void>> drop_blocks(TableIo& io, const Header& header, const Remains& remains) {
  const std::vector<std::byte> nothing(kTableEntryBytes);
  for (uint64_t block = 0; block < remains.table().size(); ++block) {
    if (!remains.table()[block].has_block() || remains.is_kept(block)) continue;
    CO_RETURN_IF_ERROR(co_await io.write_one(
        header.refcount_table_offset.bytes() + block * kTableEntryBytes, nothing));
  }
  CO_RETURN_IF_ERROR(co_await io.file().flush());
  co_return ok();
}

}  // namespace

bool can_cut_back(const Header& header) {
  const uint64_t l1_clusters =
      clusters_for(header.l1_entries * kTableEntryBytes, header.cluster_bits).value();
  // As in QEMU: version 2 has no dirty bit there, and everything fits the first refcount block.
  return header.version >= 3 && header.snapshot_count == 0 && !header.extensions.bitmaps &&
         header.crypt_method != CryptMethod::kLuks && !header.has_data_file() &&
         3 + l1_clusters <= header.refcount_block_entries();
}

Task<Result<void>> cut_back(TableIo& io, const Header& header) {
  CO_ASSIGN_OR_RETURN(std::vector<RefcountTableEntry> table,
                      co_await read_refcount_table(io, header));
  Remains remains(header, std::move(table));
  CO_RETURN_IF_ERROR(remains.keep_blocks());
  const std::vector<std::byte> empty_l1(header.l1_entries * kTableEntryBytes);
  CO_RETURN_IF_ERROR(co_await io.write_one(header.l1_table_offset.bytes(), empty_l1));
  // From here on everything but the tables themselves is leaked.
  CO_RETURN_IF_ERROR(co_await io.file().flush());
  CO_RETURN_IF_ERROR(co_await drop_blocks(io, header, remains));
  for (uint64_t block = 0; block < remains.table().size(); ++block) {
    if (!remains.is_kept(block)) continue;
    const std::vector<std::byte> bytes = remains.block_bytes(block);
    CO_RETURN_IF_ERROR(co_await io.write_one(remains.table()[block].block_offset().bytes(), bytes));
  }
  CO_RETURN_IF_ERROR(co_await io.file().flush());
  CO_ASSIGN_OR_RETURN(const FileStat stat, io.file().stat());
  if (stat.is_block_device) co_return ok();
  CO_RETURN_IF_ERROR(co_await io.file().truncate(remains.end_offset()));
  co_return ok();
}

Task<Result<void>> empty_tables(Writer& writer, const Header& header) {
  const Metadata metadata = writer.metadata();
  const uint64_t clusters = clusters_for(header.guest_size(), header.cluster_bits).value();
  const uint64_t per_table = header.l2_entries();
  for (uint64_t first = 0; first < clusters; first += per_table) {
    CO_ASSIGN_OR_RETURN(const std::vector<L2Entry> taken,
                        co_await writer.take_entries(first, std::min(first + per_table, clusters)));
    if (taken.empty()) continue;
    CO_RETURN_IF_ERROR(co_await writer.flush(true));
    for (const L2Entry entry : taken) {
      CO_RETURN_IF_ERROR(co_await release_and_discard(metadata, entry));
    }
  }
  CO_RETURN_IF_ERROR(co_await writer.flush(true));
  co_return ok();
}

}  // namespace imgconv::qcow2
