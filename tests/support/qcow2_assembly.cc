#include "tests/support/qcow2_assembly.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace imgconv::test {
namespace {

constexpr uint64_t kCopied = uint64_t{1} << 63;
constexpr uint64_t kCompressed = uint64_t{1} << 62;
constexpr uint64_t kReadsAsZeros = 1;
constexpr uint64_t kAllSubclustersAllocated = 0x00000000ffffffff;
constexpr uint64_t kAllSubclustersZero = 0xffffffff00000000;
constexpr uint32_t kMagic = 0x514649fb;
constexpr uint32_t kExtensionFeatureNames = 0x6803F857;
constexpr uint64_t kV2HeaderLength = 72;
constexpr uint64_t kSector = 512;
constexpr std::byte kFiller{0xEE};

uint64_t round_up_to(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

void append(std::vector<std::byte>& bytes, std::span<const std::byte> more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}
void append_be(std::vector<std::byte>& bytes, uint64_t value, unsigned width) {
  append(bytes, big_endian(value, width));
}

}  // namespace

std::vector<std::byte> big_endian(uint64_t value, unsigned width) {
  std::vector<std::byte> bytes(width);
  for (unsigned i = 0; i < width; ++i) {
    bytes[i] = static_cast<std::byte>(value >> (8 * (width - 1 - i)));
  }
  return bytes;
}

Qcow2Assembly::Qcow2Assembly(const Qcow2Builder& builder)
    : b_(builder),
      cs_(builder.cluster_size()),
      refcounts_per_block_((cs_ * 8) >> builder.refcount_order_) {
  const uint64_t l2_reach = cs_ * b_.l2_table_entries();
  l1_entries_ = std::max<uint64_t>(b_.l1_entries_, (b_.size_ + l2_reach - 1) / l2_reach);
}

BuiltQcow2 Qcow2Assembly::assemble() {
  collect_tables(b_.guest_, true);
  for (const auto& snapshot : b_.snapshots_) collect_tables(snapshot.guest, false);
  place_everything();
  count_references();
  built_.bytes.resize(next_cluster_ * cs_);
  write_header();
  write_allocations();
  write_tables();
  write_roots();
  write_snapshot_table();
  apply_table_lies();
  write_refcounts();
  apply_length_and_pokes();
  return std::move(built_);
}

void Qcow2Assembly::collect_tables(const GuestMap& guest, bool is_active) {
  std::map<uint64_t, GuestMap> groups;
  for (const auto& [guest_cluster, entry] : guest) {
    groups[guest_cluster / b_.l2_table_entries()][guest_cluster] = entry;
  }
  if (is_active) {
    // A lie needs a table to stand in.
    for (const auto& lie : b_.l2_lies_) groups[lie.first / b_.l2_table_entries()];
  }
  Root& root = roots_.emplace_back();
  for (auto& [l1_index, entries] : groups) {
    assert(l1_index < l1_entries_);
    const auto same = std::find_if(tables_.begin(), tables_.end(), [&](const Table& table) {
      return table.l1_index == l1_index && table.entries == entries;
    });
    root.tables[l1_index] = static_cast<size_t>(same - tables_.begin());
    if (same == tables_.end()) tables_.push_back({l1_index, std::move(entries), 0});
  }
}

void Qcow2Assembly::place_everything() {
  // The refcount structures count themselves: repeat until they are large enough.
  uint64_t blocks = 1;
  uint64_t table = 1;
  for (;;) {
    place(table, blocks);
    const uint64_t needed_blocks =
        (next_cluster_ + refcounts_per_block_ - 1) / refcounts_per_block_;
    const uint64_t needed_table = clusters_for(std::max(needed_blocks, blocks) * 8);
    if (needed_blocks <= blocks && needed_table <= table) return;
    blocks = std::max(blocks, needed_blocks);
    table = std::max(table, needed_table);
  }
}

void Qcow2Assembly::place(uint64_t table_clusters, uint64_t block_clusters) {
  table_clusters_ = table_clusters;
  next_cluster_ = 1;
  const auto take = [this](uint64_t clusters) {
    return std::exchange(next_cluster_, next_cluster_ + clusters) * cs_;
  };
  built_.refcount_table_offset = take(table_clusters);
  built_.refcount_block_offsets.clear();
  for (uint64_t i = 0; i < block_clusters; ++i) built_.refcount_block_offsets.push_back(take(1));
  for (Root& root : roots_) {
    root.host_offset = l1_entries_ == 0 ? 0 : take(clusters_for(l1_entries_ * 8));
  }
  built_.l1_offset = roots_[0].host_offset;
  if (!b_.snapshots_.empty()) {
    built_.snapshot_table_offset = take(clusters_for(snapshot_table().size()));
  }
  fixed_clusters_ = next_cluster_;
  for (Table& table : tables_) table.host_offset = take(1);
  place_allocations();
}

void Qcow2Assembly::place_allocations() {
  allocation_offsets_.clear();
  uint64_t packed_end = 0;
  for (const auto& allocation : b_.allocations_) {
    next_cluster_ += allocation.skipped_clusters_before;
    uint64_t offset = next_cluster_ * cs_;
    const uint64_t length = allocation.bytes.size();
    if (b_.has_data_file_) {
      // Stands at its guest offset in the other file.
      allocation_offsets_.push_back(0);
      continue;
    }
    if (allocation.is_packed) {
      const bool has_room = packed_end % cs_ != 0;
      const uint64_t room_end = round_up_to(packed_end, cs_);
      const bool fits = has_room && packed_end + length <= room_end;
      const bool goes_on = has_room && room_end == offset;
      if (fits || goes_on) offset = packed_end;
      packed_end = offset + length;
    }
    allocation_offsets_.push_back(offset);
    next_cluster_ = std::max(next_cluster_, clusters_for(offset + length));
  }
}

bool Qcow2Assembly::is_in_data_file(EntryKind kind) const {
  return b_.has_data_file_ && (kind == EntryKind::kData || kind == EntryKind::kZeroAlloc);
}

uint64_t Qcow2Assembly::host_offset_of(uint64_t guest_cluster, const Entry& entry) const {
  if (is_in_data_file(entry.kind)) return guest_cluster * cs_;
  return allocation_offsets_[entry.allocation];
}

void Qcow2Assembly::count_references() {
  for (uint64_t cluster = 0; cluster < fixed_clusters_; ++cluster) references_[cluster] = 1;
  for (const Root& root : roots_) {
    for (const auto& [l1_index, number] : root.tables) {
      ++references_[tables_[number].host_offset / cs_];
      for (const auto& [guest_cluster, entry] : tables_[number].entries) count_entry(entry);
    }
  }
}

void Qcow2Assembly::count_entry(const Entry& entry) {
  if (is_in_data_file(entry.kind)) return;
  if (entry.kind == EntryKind::kData || entry.kind == EntryKind::kZeroAlloc) {
    ++references_[allocation_offsets_[entry.allocation] / cs_];
  } else if (entry.kind == EntryKind::kCompressed) {
    const uint64_t offset = allocation_offsets_[entry.allocation];
    const uint64_t length = b_.allocations_[entry.allocation].bytes.size();
    const uint64_t last = round_up_to(offset + length, kSector) - 1;
    for (uint64_t cluster = offset / cs_; cluster <= last / cs_; ++cluster) ++references_[cluster];
  }
}

uint64_t Qcow2Assembly::reference_flag(uint64_t host_offset) const {
  const auto found = references_.find(host_offset / cs_);
  return found != references_.end() && found->second == 1 ? kCopied : 0;
}

void Qcow2Assembly::put(uint64_t host_offset, std::span<const std::byte> bytes) {
  if (built_.bytes.size() < host_offset + bytes.size()) {
    built_.bytes.resize(host_offset + bytes.size());
  }
  std::copy(bytes.begin(), bytes.end(),
            built_.bytes.begin() + static_cast<std::ptrdiff_t>(host_offset));
}

void Qcow2Assembly::put_be(uint64_t host_offset, uint64_t value, unsigned width) {
  put(host_offset, big_endian(value, width));
}

void Qcow2Assembly::write_header() {
  const bool is_v2 = b_.version_ == 2;
  put_be(0, kMagic, 4);
  put_be(4, b_.version_, 4);
  put_be(20, b_.cluster_bits_, 4);
  put_be(24, b_.size_, 8);
  put_be(36, l1_entries_, 4);
  put_be(40, built_.l1_offset, 8);
  put_be(48, built_.refcount_table_offset, 8);
  put_be(56, table_clusters_, 4);
  put_be(60, b_.snapshots_.size(), 4);
  put_be(64, built_.snapshot_table_offset, 8);
  if (!is_v2) {
    put_be(72, b_.incompatible_, 8);
    put_be(80, b_.compatible_, 8);
    put_be(88, b_.autoclear_, 8);
    put_be(96, b_.refcount_order_, 4);
    put_be(100, b_.header_length_, 4);
    if (b_.header_length_ > 104) put_be(104, b_.compression_type_, 1);
    for (uint64_t offset = 112; offset < b_.header_length_; ++offset) put(offset, {&kFiller, 1});
  }
  write_extensions_and_backing_name(is_v2 ? kV2HeaderLength : b_.header_length_);
}

void Qcow2Assembly::write_extensions_and_backing_name(uint64_t position) {
  const auto put_extension = [&](uint32_t type, std::span<const std::byte> data) {
    put_be(position, type, 4);
    put_be(position + 4, data.size(), 4);
    put(position + 8, data);
    position += 8 + round_up_to(data.size(), 8);
  };
  for (const auto& [type, data] : b_.extensions_) put_extension(type, data);
  if (!b_.feature_names_.empty()) put_extension(kExtensionFeatureNames, b_.feature_names_);
  position += 8;
  assert(position + b_.backing_file_.size() <= cs_);
  if (b_.backing_file_.empty()) return;
  put_be(8, position, 8);
  put_be(16, b_.backing_file_.size(), 4);
  put(position, std::as_bytes(std::span(b_.backing_file_)));
}

void Qcow2Assembly::write_allocations() {
  if (!b_.has_data_file_) {
    for (size_t i = 0; i < b_.allocations_.size(); ++i) {
      put(allocation_offsets_[i], b_.allocations_[i].bytes);
    }
    return;
  }
  built_.data_file_bytes.resize(b_.size_);
  for (const auto& [guest_cluster, entry] : b_.guest_) {
    if (!is_in_data_file(entry.kind)) continue;
    const uint64_t offset = guest_cluster * cs_;
    const auto& bytes = b_.allocations_[entry.allocation].bytes;
    if (built_.data_file_bytes.size() < offset + cs_) built_.data_file_bytes.resize(offset + cs_);
    std::copy(bytes.begin(), bytes.end(),
              built_.data_file_bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
}

uint64_t Qcow2Assembly::compressed_entry(uint64_t host_offset, uint64_t length) const {
  const unsigned offset_bits = 62 - (b_.cluster_bits_ - 8);
  const uint64_t more_sectors = length == 0 ? 0 : (host_offset % kSector + length - 1) / kSector;
  assert(more_sectors < uint64_t{1} << (b_.cluster_bits_ - 8));
  return kCompressed | more_sectors << offset_bits | host_offset;
}

void Qcow2Assembly::write_entry(const Table& table, uint64_t guest_cluster, const Entry& entry) {
  uint64_t word = 0;
  uint64_t bitmap = 0;
  const uint64_t zero_flag = b_.has_extended_l2_ ? 0 : kReadsAsZeros;
  const uint64_t offset =
      entry.kind == EntryKind::kBitmapOnly || entry.kind == EntryKind::kZeroPlain
          ? 0
          : host_offset_of(guest_cluster, entry);
  const uint64_t flag = is_in_data_file(entry.kind) ? kCopied : reference_flag(offset);
  switch (entry.kind) {
    case EntryKind::kData:
      word = offset | flag;
      bitmap = kAllSubclustersAllocated;
      break;
    case EntryKind::kZeroAlloc:
      word = offset | flag | zero_flag;
      bitmap = kAllSubclustersZero;
      break;
    case EntryKind::kZeroPlain:
      word = zero_flag;
      bitmap = kAllSubclustersZero;
      break;
    case EntryKind::kCompressed:
      word = compressed_entry(offset, b_.allocations_[entry.allocation].bytes.size());
      break;
    case EntryKind::kBitmapOnly:
      break;
  }
  const unsigned entry_size = b_.has_extended_l2_ ? 16 : 8;
  const uint64_t at = table.host_offset + guest_cluster % b_.l2_table_entries() * entry_size;
  put_be(at, word, 8);
  if (b_.has_extended_l2_) put_be(at + 8, entry.bitmap.value_or(bitmap), 8);
}

void Qcow2Assembly::write_tables() {
  for (const Table& table : tables_) {
    for (const auto& [guest_cluster, entry] : table.entries) {
      write_entry(table, guest_cluster, entry);
    }
  }
  for (const auto& [l1_index, number] : roots_[0].tables) {
    built_.l2_offset_of_l1_index[l1_index] = tables_[number].host_offset;
    for (const auto& [guest_cluster, entry] : tables_[number].entries) {
      if (entry.kind == EntryKind::kBitmapOnly || entry.kind == EntryKind::kZeroPlain) continue;
      built_.host_offset_of_guest_cluster[guest_cluster] = host_offset_of(guest_cluster, entry);
    }
  }
}

void Qcow2Assembly::write_roots() {
  for (const Root& root : roots_) {
    for (const auto& [l1_index, number] : root.tables) {
      const uint64_t l2_offset = tables_[number].host_offset;
      put_be(root.host_offset + 8 * l1_index, l2_offset | reference_flag(l2_offset), 8);
    }
  }
}

std::vector<std::byte> Qcow2Assembly::snapshot_entry(size_t index) const {
  const BuilderSnapshot& spec = b_.snapshots_[index].spec;
  std::vector<std::byte> extra;
  if (spec.extra_data_size >= 8) append_be(extra, spec.vm_state_size, 8);
  if (spec.extra_data_size >= 16) append_be(extra, spec.disk_size.value_or(b_.size_), 8);
  if (spec.extra_data_size >= 24) append_be(extra, spec.icount, 8);
  extra.resize(spec.extra_data_size, kFiller);

  std::vector<std::byte> bytes;
  append_be(bytes, roots_[index + 1].host_offset, 8);
  append_be(bytes, l1_entries_, 4);
  append_be(bytes, spec.id.size(), 2);
  append_be(bytes, spec.name.size(), 2);
  append_be(bytes, spec.date_sec, 4);
  append_be(bytes, spec.date_nsec, 4);
  append_be(bytes, spec.vm_clock_nsec, 8);
  append_be(bytes, spec.extra_data_size >= 8 ? 0 : spec.vm_state_size, 4);
  append_be(bytes, spec.extra_data_size, 4);
  append(bytes, extra);
  append(bytes, std::as_bytes(std::span(spec.id)));
  append(bytes, std::as_bytes(std::span(spec.name)));
  bytes.resize(round_up_to(bytes.size(), 8));
  return bytes;
}

std::vector<std::byte> Qcow2Assembly::snapshot_table() const {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < b_.snapshots_.size(); ++i) append(bytes, snapshot_entry(i));
  return bytes;
}

void Qcow2Assembly::write_snapshot_table() {
  if (!b_.snapshots_.empty()) put(built_.snapshot_table_offset, snapshot_table());
}

void Qcow2Assembly::apply_table_lies() {
  const unsigned entry_size = b_.has_extended_l2_ ? 16 : 8;
  for (const auto& [guest_cluster, entry] : b_.l2_lies_) {
    const uint64_t table_offset =
        built_.l2_offset_of_l1_index.at(guest_cluster / b_.l2_table_entries());
    put_be(table_offset + guest_cluster % b_.l2_table_entries() * entry_size, entry, 8);
  }
  for (const auto& [l1_index, entry] : b_.l1_lies_)
    put_be(built_.l1_offset + 8 * l1_index, entry, 8);
}

void Qcow2Assembly::put_refcount(uint64_t host_cluster, uint64_t value) {
  const uint64_t block = built_.refcount_block_offsets.at(host_cluster / refcounts_per_block_);
  const uint64_t index = host_cluster % refcounts_per_block_;
  const unsigned width = 1U << b_.refcount_order_;
  assert(width == 64 || value < uint64_t{1} << width);
  if (width >= 8) {
    put_be(block + index * (width / 8), value, width / 8);
    return;
  }
  // Narrow counts fill a byte from its lowest bit on.
  std::byte& byte = built_.bytes[block + index * width / 8];
  const unsigned shift = static_cast<unsigned>(index * width % 8);
  const std::byte mask{static_cast<unsigned char>(((1U << width) - 1) << shift)};
  byte = (byte & ~mask) | (static_cast<std::byte>(value << shift) & mask);
}

void Qcow2Assembly::write_refcounts() {
  for (size_t i = 0; i < built_.refcount_block_offsets.size(); ++i) {
    put_be(built_.refcount_table_offset + 8 * i, built_.refcount_block_offsets[i], 8);
  }
  for (const auto& [host_cluster, count] : references_) put_refcount(host_cluster, count);
  for (const auto& [host_cluster, count] : b_.refcount_lies_) put_refcount(host_cluster, count);
}

void Qcow2Assembly::apply_length_and_pokes() {
  if (b_.file_length_) built_.bytes.resize(*b_.file_length_);
  for (const auto& [host_offset, bytes] : b_.pokes_) put(host_offset, bytes);
}

}  // namespace imgconv::test
