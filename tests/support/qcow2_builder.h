// Qcow2Builder: hand-made qcow2 images, valid by default, lying on request.
//
// An oracle independent of the product: it shares no code with formats/, so that reader and writer
// cannot agree on the same mistake. Say what the guest sees, then build(); refcounts, copied flags
// and tables come out right unless one of the overriding calls (l1, l2, set_refcount, poke) says
// otherwise. Set the cluster size before the clusters. Small images only: the file is one block of
// memory.
//
// Layout: header, refcount table, refcount blocks, L1, snapshot L1s, snapshot table, L2 tables,
// then data in the order of the calls; compressed streams are packed byte by byte (QCOW2.md 4.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace imgconv::test {

enum class BuilderCodec : uint8_t { kDeflate, kZstd };

/// One entry of the snapshot table; sizes follow from the strings.
struct BuilderSnapshot {
  std::string id = "1";
  std::string name = "snap";
  uint32_t date_sec = 0;
  uint32_t date_nsec = 0;
  uint64_t vm_clock_nsec = 0;
  uint64_t vm_state_size = 0;
  /// Nothing: the builder's size.
  std::optional<uint64_t> disk_size;
  uint64_t icount = 0;
  /// 0, 16 or 24 are what writers use; more is filled up with 0xEE.
  uint32_t extra_data_size = 24;
};

/// What build() made, and where.
struct BuiltQcow2 {
  std::vector<std::byte> bytes;
  /// With data_file(): the content of that file.
  std::vector<std::byte> data_file_bytes;
  uint64_t refcount_table_offset = 0;
  std::vector<uint64_t> refcount_block_offsets;
  uint64_t l1_offset = 0;
  uint64_t snapshot_table_offset = 0;
  /// Active tables only.
  std::map<uint64_t, uint64_t> l2_offset_of_l1_index;
  /// Where the bytes of a guest cluster begin: data, preallocated zero, compressed stream.
  std::map<uint64_t, uint64_t> host_offset_of_guest_cluster;
};

class Qcow2Builder {
 public:
  // ---- Header ----
  Qcow2Builder& version(uint32_t version);
  Qcow2Builder& cluster_bits(uint32_t bits);
  /// Virtual size; the L1 is as long as it needs.
  Qcow2Builder& size(uint64_t bytes);
  Qcow2Builder& refcount_order(uint32_t order);
  /// 1 is zstd and sets incompatible bit 3.
  Qcow2Builder& compression_type(uint8_t type);
  /// Incompatible bit 4, 16-byte L2 entries.
  Qcow2Builder& extended_l2();
  /// Longer than 112: the rest is filled with 0xEE.
  Qcow2Builder& header_length(uint32_t length);
  Qcow2Builder& incompatible(uint64_t bits);
  Qcow2Builder& compatible(uint64_t bits);
  Qcow2Builder& autoclear(uint64_t bits);
  /// An empty format writes no format extension.
  Qcow2Builder& backing(std::string name, std::string format = "");
  /// Incompatible bit 2 and the name extension; `is_raw` sets autoclear bit 1. Guest data goes to
  /// BuiltQcow2::data_file_bytes.
  Qcow2Builder& data_file(std::string name, bool is_raw = false);
  Qcow2Builder& extension(uint32_t type, std::vector<std::byte> data);
  /// One entry of the feature name table. `kind`: 0 incompatible, 1 compatible, 2 autoclear.
  Qcow2Builder& feature_name(uint8_t kind, uint8_t bit, std::string name);
  /// At least this many L1 entries.
  Qcow2Builder& l1_entries(uint32_t entries);

  // ---- What the guest sees; a later call for the same cluster replaces the earlier one ----
  /// A data cluster; `bytes` are padded with zeros to the cluster size.
  Qcow2Builder& data(uint64_t guest_cluster, std::span<const std::byte> bytes);
  /// Compresses a whole cluster; `bytes` are padded with zeros first. Sets no header field.
  Qcow2Builder& compressed(uint64_t guest_cluster, std::span<const std::byte> bytes,
                           BuilderCodec codec = BuilderCodec::kDeflate);
  /// A compressed cluster whose stream is given, damaged perhaps.
  Qcow2Builder& compressed_stream(uint64_t guest_cluster, std::span<const std::byte> stream);
  Qcow2Builder& zero_plain(uint64_t guest_cluster);
  /// Reads as zeros, though host space (filled with 0x55) is kept.
  Qcow2Builder& zero_alloc(uint64_t guest_cluster);
  /// Extended L2: bits 0..31 allocated, 32..63 zero. For a cluster set before; an unset one gets no
  /// host offset.
  Qcow2Builder& subclusters(uint64_t guest_cluster, uint64_t bitmap);
  Qcow2Builder& unallocated(uint64_t guest_cluster);
  /// Leaves `count` host clusters unused before the next allocation.
  Qcow2Builder& skip_host_clusters(uint64_t count);
  /// Freezes what the guest sees now.
  Qcow2Builder& snapshot(BuilderSnapshot snapshot);

  // ---- Lies, applied last and in this order ----
  Qcow2Builder& l2(uint64_t guest_cluster, uint64_t entry);
  Qcow2Builder& l1(uint64_t l1_index, uint64_t entry);
  Qcow2Builder& set_refcount(uint64_t host_cluster, uint64_t value);
  /// Cuts or extends (with zeros) the file.
  Qcow2Builder& file_length(uint64_t length);
  Qcow2Builder& poke_be16(uint64_t host_offset, uint16_t value);
  Qcow2Builder& poke_be32(uint64_t host_offset, uint32_t value);
  Qcow2Builder& poke_be64(uint64_t host_offset, uint64_t value);
  Qcow2Builder& poke(uint64_t host_offset, std::vector<std::byte> bytes);

  BuiltQcow2 build() const;
  std::vector<std::byte> bytes() const { return build().bytes; }

  uint64_t cluster_size() const { return uint64_t{1} << cluster_bits_; }
  uint64_t l2_table_entries() const { return cluster_size() / (has_extended_l2_ ? 16 : 8); }

 private:
  friend class Qcow2Assembly;

  enum class EntryKind : uint8_t { kData, kCompressed, kZeroPlain, kZeroAlloc, kBitmapOnly };
  struct Entry {
    EntryKind kind = EntryKind::kData;
    /// Index into allocations_; kData, kCompressed, kZeroAlloc.
    size_t allocation = 0;
    std::optional<uint64_t> bitmap;

    bool operator==(const Entry&) const = default;
  };
  using GuestMap = std::map<uint64_t, Entry>;
  /// Host space in the order of the calls.
  struct Allocation {
    std::vector<std::byte> bytes;
    bool is_packed = false;
    uint64_t skipped_clusters_before = 0;
  };
  struct FrozenSnapshot {
    BuilderSnapshot spec;
    GuestMap guest;
  };

  size_t allocate(std::vector<std::byte> bytes, bool is_packed);
  std::vector<std::byte> padded(std::span<const std::byte> bytes) const;

  uint32_t version_ = 3;
  uint32_t cluster_bits_ = 16;
  uint64_t size_ = 0;
  uint32_t refcount_order_ = 4;
  uint8_t compression_type_ = 0;
  bool has_extended_l2_ = false;
  uint32_t header_length_ = 112;
  uint64_t incompatible_ = 0;
  uint64_t compatible_ = 0;
  uint64_t autoclear_ = 0;
  uint32_t l1_entries_ = 0;
  std::string backing_file_;
  bool has_data_file_ = false;
  std::vector<std::byte> feature_names_;
  std::vector<std::pair<uint32_t, std::vector<std::byte>>> extensions_;

  GuestMap guest_;
  std::vector<Allocation> allocations_;
  uint64_t pending_skip_clusters_ = 0;
  std::vector<FrozenSnapshot> snapshots_;

  std::map<uint64_t, uint64_t> l2_lies_;
  std::map<uint64_t, uint64_t> l1_lies_;
  std::map<uint64_t, uint64_t> refcount_lies_;
  std::optional<uint64_t> file_length_;
  std::vector<std::pair<uint64_t, std::vector<std::byte>>> pokes_;
};

}  // namespace imgconv::test
