// Entries of the qcow2 tables as values in host byte order: L1Entry, L2Entry (with its
// SubclusterBitmap when L2 entries are extended), RefcountTableEntry. They name the bits and
// classify; whether an offset makes sense (aligned, inside the file) is for the reader to say,
// since its message depends on the place. Values, any thread.
#pragma once

#include <cstdint>

#include "formats/qcow2/units.h"

namespace imgconv::qcow2 {

/// Bit 63 of L1 and L2 entries: the refcount of what they point to is exactly 1.
enum class Copied : bool { kNo, kYes };

inline constexpr uint64_t kCopiedBit = uint64_t{1} << 63;
inline constexpr uint64_t kCompressedBit = uint64_t{1} << 62;
inline constexpr uint64_t kZeroBit = 1;
/// Bits 9-55 of L1 and standard L2 entries.
inline constexpr uint64_t kEntryOffsetMask = 0x00fffffffffffe00;

/// QCOW2.md 3. Bits: 0-8 reserved, 9-55 L2 table, 56-62 reserved, 63 copied.
class L1Entry {
 public:
  constexpr L1Entry() = default;
  constexpr explicit L1Entry(uint64_t raw) : raw_(raw) {}
  static constexpr L1Entry table(HostOffset l2_table, Copied copied) {
    return L1Entry(l2_table.bytes() | (copied == Copied::kYes ? kCopiedBit : 0));
  }
  constexpr uint64_t raw() const { return raw_; }
  constexpr bool has_table() const { return (raw_ & kEntryOffsetMask) != 0; }
  constexpr HostOffset table_offset() const { return HostOffset(raw_ & kEntryOffsetMask); }
  constexpr bool is_copied() const { return (raw_ & kCopiedBit) != 0; }
  constexpr uint64_t reserved_bits() const { return raw_ & 0x7f000000000001ff; }
  friend constexpr bool operator==(L1Entry, L1Entry) = default;

 private:
  uint64_t raw_ = 0;
};

/// QCOW2.md 2. Bits: 0-8 reserved, 9-63 refcount block; 0 = none.
class RefcountTableEntry {
 public:
  constexpr RefcountTableEntry() = default;
  constexpr explicit RefcountTableEntry(uint64_t raw) : raw_(raw) {}
  static constexpr RefcountTableEntry block(HostOffset block) {
    return RefcountTableEntry(block.bytes());
  }
  constexpr uint64_t raw() const { return raw_; }
  constexpr bool has_block() const { return (raw_ & ~uint64_t{0x1ff}) != 0; }
  constexpr HostOffset block_offset() const { return HostOffset(raw_ & ~uint64_t{0x1ff}); }
  constexpr uint64_t reserved_bits() const { return raw_ & 0x1ff; }
  friend constexpr bool operator==(RefcountTableEntry, RefcountTableEntry) = default;

 private:
  uint64_t raw_ = 0;
};

/// Second word of an extended L2 entry (QCOW2.md 5): bit i = subcluster i is allocated, bit 32+i =
/// it reads as zeros.
class SubclusterBitmap {
 public:
  static constexpr unsigned kSubclusters = 32;

  constexpr SubclusterBitmap() = default;
  constexpr explicit SubclusterBitmap(uint64_t raw) : raw_(raw) {}
  static constexpr SubclusterBitmap all_allocated() { return SubclusterBitmap(0xffffffff); }
  static constexpr SubclusterBitmap all_zero() {
    return SubclusterBitmap(uint64_t{0xffffffff} << 32);
  }
  constexpr uint64_t raw() const { return raw_; }
  constexpr uint32_t allocated_mask() const { return static_cast<uint32_t>(raw_); }
  constexpr uint32_t zero_mask() const { return static_cast<uint32_t>(raw_ >> 32); }
  constexpr bool is_allocated(unsigned subcluster) const {
    return ((allocated_mask() >> subcluster) & 1) != 0;
  }
  constexpr bool is_zero(unsigned subcluster) const {
    return ((zero_mask() >> subcluster) & 1) != 0;
  }
  /// A subcluster that is both makes the whole entry invalid.
  constexpr bool has_contradiction() const { return (allocated_mask() & zero_mask()) != 0; }

  /// Subclusters [first, first + count). Requires: the range is inside the cluster.
  static constexpr uint32_t range_mask(unsigned first, unsigned count) {
    return static_cast<uint32_t>(((uint64_t{1} << count) - 1) << first);
  }
  constexpr SubclusterBitmap with_allocated(uint32_t mask) const {
    return SubclusterBitmap((raw_ | mask) & ~(uint64_t{mask} << 32));
  }
  constexpr SubclusterBitmap with_zero(uint32_t mask) const {
    return SubclusterBitmap((raw_ & ~uint64_t{mask}) | (uint64_t{mask} << 32));
  }
  friend constexpr bool operator==(SubclusterBitmap, SubclusterBitmap) = default;

 private:
  uint64_t raw_ = 0;
};

/// What an image as a whole says about the meaning of its L2 entries.
struct L2Format {
  unsigned cluster_bits = 16;
  bool is_extended = false;
  bool has_data_file = false;
};

/// Type of a whole cluster (QCOW2.md 4.1). With extended L2 entries only kUnallocated, kNormal and
/// kCompressed occur.
enum class ClusterType : uint8_t { kUnallocated, kZeroPlain, kZeroAllocated, kNormal, kCompressed };

/// Type of one subcluster; for standard entries that of the cluster (QCOW2.md 5).
enum class SubclusterType : uint8_t {
  kUnallocated,
  kUnallocatedAllocated,  ///< Host space is reserved, the data comes from the backing image.
  kZeroPlain,
  kZeroAllocated,
  kNormal,
  kCompressed,
  kInvalid,
};

/// Where a compressed cluster's stream is: it begins at `offset` and ends before `offset + length`.
struct CompressedLocation {
  HostOffset offset;
  uint64_t length = 0;
};

/// QCOW2.md 4 and 5. Standard bits: 0 zero flag, 1-8 reserved, 9-55 host offset, 56-61 reserved, 62
/// compressed, 63 copied. Compressed (bit 62): see compressed_location().
class L2Entry {
 public:
  constexpr L2Entry() = default;
  constexpr explicit L2Entry(uint64_t raw, SubclusterBitmap bitmap = {})
      : raw_(raw), bitmap_(bitmap) {}

  static constexpr L2Entry data(HostOffset host, Copied copied, SubclusterBitmap bitmap = {}) {
    return L2Entry(host.bytes() | (copied == Copied::kYes ? kCopiedBit : 0), bitmap);
  }
  /// Reads as zeros without host space; for standard entries.
  static constexpr L2Entry zero_plain() { return L2Entry(kZeroBit); }
  /// Reads as zeros and keeps its host space; for standard entries.
  static constexpr L2Entry zero_allocated(HostOffset host, Copied copied) {
    return L2Entry(data(host, copied).raw() | kZeroBit);
  }
  /// Requires: offset < 2^x of QCOW2.md 4.2 for these cluster_bits, and the stream reaches at most
  /// to the last sector the entry can name (true for every stream shorter than a cluster).
  static constexpr L2Entry compressed(HostOffset offset, uint64_t length, unsigned cluster_bits) {
    const uint64_t sectors = (offset.bytes() + length - 1) / 512 - offset.bytes() / 512;
    return L2Entry(kCompressedBit | offset.bytes() | (sectors << sector_shift(cluster_bits)));
  }

  constexpr uint64_t raw() const { return raw_; }
  constexpr SubclusterBitmap bitmap() const { return bitmap_; }
  constexpr bool is_copied() const { return (raw_ & kCopiedBit) != 0; }
  constexpr bool is_compressed() const { return (raw_ & kCompressedBit) != 0; }
  /// Requires: !is_compressed().
  constexpr HostOffset host_offset() const { return HostOffset(raw_ & kEntryOffsetMask); }
  /// Reserved bits of a standard entry. Requires: !is_compressed().
  constexpr uint64_t reserved_bits() const { return raw_ & 0x3f000000000001fe; }

  constexpr ClusterType type(const L2Format& format) const {
    if (is_compressed()) return ClusterType::kCompressed;
    const bool has_offset = host_offset().bytes() != 0;
    if ((raw_ & kZeroBit) != 0 && !format.is_extended) {
      return has_offset ? ClusterType::kZeroAllocated : ClusterType::kZeroPlain;
    }
    // Guest cluster 0 of an external data file stands at offset 0: bit 63 tells it apart.
    if (has_offset || (format.has_data_file && is_copied())) return ClusterType::kNormal;
    return ClusterType::kUnallocated;
  }

  /// Requires: subcluster < 32; it is ignored for standard entries.
  constexpr SubclusterType subcluster_type(const L2Format& format, unsigned subcluster) const {
    const ClusterType cluster = type(format);
    if (!format.is_extended) return whole_cluster(cluster);
    if (cluster == ClusterType::kCompressed) return SubclusterType::kCompressed;
    if (cluster == ClusterType::kNormal) {
      if (bitmap_.has_contradiction()) return SubclusterType::kInvalid;
      if (bitmap_.is_zero(subcluster)) return SubclusterType::kZeroAllocated;
      return bitmap_.is_allocated(subcluster) ? SubclusterType::kNormal
                                              : SubclusterType::kUnallocatedAllocated;
    }
    if (bitmap_.allocated_mask() != 0) return SubclusterType::kInvalid;
    return bitmap_.is_zero(subcluster) ? SubclusterType::kZeroPlain : SubclusterType::kUnallocated;
  }

  /// QCOW2.md 4.2. Requires: is_compressed().
  constexpr CompressedLocation compressed_location(unsigned cluster_bits) const {
    const unsigned shift = sector_shift(cluster_bits);
    const uint64_t offset = raw_ & ((uint64_t{1} << shift) - 1);
    const uint64_t sectors = (raw_ >> shift) & ((uint64_t{1} << (cluster_bits - 8)) - 1);
    return {HostOffset(offset), (sectors + 1) * 512 - offset % 512};
  }

  friend constexpr bool operator==(const L2Entry&, const L2Entry&) = default;

 private:
  static constexpr unsigned sector_shift(unsigned cluster_bits) { return 62 - (cluster_bits - 8); }
  static constexpr SubclusterType whole_cluster(ClusterType type) {
    switch (type) {
      case ClusterType::kUnallocated:
        return SubclusterType::kUnallocated;
      case ClusterType::kZeroPlain:
        return SubclusterType::kZeroPlain;
      case ClusterType::kZeroAllocated:
        return SubclusterType::kZeroAllocated;
      case ClusterType::kNormal:
        return SubclusterType::kNormal;
      case ClusterType::kCompressed:
        return SubclusterType::kCompressed;
    }
    return SubclusterType::kInvalid;
  }

  uint64_t raw_ = 0;
  SubclusterBitmap bitmap_;
};

}  // namespace imgconv::qcow2
