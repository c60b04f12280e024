// The structures of a qcow2 file byte by byte, in file order and big-endian, with the constants of
// the format (QCOW2.md). Layout only: checked values are Header (header.h), the entries (entries.h)
// and Snapshot (snapshot.h). Trivially copyable, alignment 1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/byteorder.h"

namespace imgconv::qcow2 {

inline constexpr uint32_t kMagic = 0x514649FB;  // "QFI\xfb"

/// Limits of the format (QCOW2.md 1): 512 bytes to 2 MiB.
inline constexpr unsigned kMinClusterBits = 9;
inline constexpr unsigned kMaxClusterBits = 21;
inline constexpr unsigned kMaxRefcountOrder = 6;
/// Limits that QEMU sets (QCOW2.md 1, 2, 7, 9).
inline constexpr uint64_t kMaxL1Bytes = 32 * 1024 * 1024;
inline constexpr uint64_t kMaxRefcountTableBytes = 8 * 1024 * 1024;
inline constexpr uint32_t kMaxSnapshots = 65536;
inline constexpr uint32_t kMaxSnapshotExtraBytes = 1024;
inline constexpr uint64_t kMaxSnapshotTableBytes = 64 * 1024 * 1024;
/// Snapshot entries of version 3 must at least say how large the VM state and the disk are.
inline constexpr uint32_t kMinV3SnapshotExtraBytes = 16;
inline constexpr uint32_t kMaxBackingNameBytes = 1023;
inline constexpr uint32_t kMaxBitmaps = 65535;
inline constexpr uint64_t kMaxBitmapDirectoryBytes = uint64_t{kMaxBitmaps + 1} * 1024 - 1024;
inline constexpr uint64_t kTableEntryBytes = 8;

/// Cluster 0 begins with this; a version 2 image has the first 72 bytes only (QCOW2.md 1).
struct RawHeader {
  be32 magic;
  be32 version;
  be64 backing_file_offset;
  be32 backing_file_size;
  be32 cluster_bits;
  be64 size;
  be32 crypt_method;
  be32 l1_size;
  be64 l1_table_offset;
  be64 refcount_table_offset;
  be32 refcount_table_clusters;
  be32 nb_snapshots;
  be64 snapshots_offset;
  be64 incompatible_features;
  be64 compatible_features;
  be64 autoclear_features;
  be32 refcount_order;
  be32 header_length;
  uint8_t compression_type;
  uint8_t padding[7];
};
static_assert(sizeof(RawHeader) == 112 && alignof(RawHeader) == 1);
static_assert(offsetof(RawHeader, cluster_bits) == 20);
static_assert(offsetof(RawHeader, size) == 24);
static_assert(offsetof(RawHeader, l1_size) == 36);
static_assert(offsetof(RawHeader, refcount_table_offset) == 48);
static_assert(offsetof(RawHeader, snapshots_offset) == 64);
static_assert(offsetof(RawHeader, incompatible_features) == 72);
static_assert(offsetof(RawHeader, refcount_order) == 96);
static_assert(offsetof(RawHeader, header_length) == 100);
static_assert(offsetof(RawHeader, compression_type) == 104);

inline constexpr uint32_t kV2HeaderBytes = 72;
inline constexpr uint32_t kMinV3HeaderBytes = 104;
inline constexpr uint32_t kV3HeaderBytes = sizeof(RawHeader);

/// Bits of incompatible_features (QCOW2.md 1.1).
inline constexpr uint64_t kIncompatDirty = 1 << 0;
inline constexpr uint64_t kIncompatCorrupt = 1 << 1;
inline constexpr uint64_t kIncompatDataFile = 1 << 2;
inline constexpr uint64_t kIncompatCompression = 1 << 3;
inline constexpr uint64_t kIncompatExtendedL2 = 1 << 4;
inline constexpr uint64_t kIncompatKnown = 0x1f;
/// Bits of compatible_features (1.2) and autoclear_features (1.3).
inline constexpr uint64_t kCompatLazyRefcounts = 1 << 0;
inline constexpr uint64_t kAutoclearBitmaps = 1 << 0;
inline constexpr uint64_t kAutoclearDataFileRaw = 1 << 1;
inline constexpr uint64_t kAutoclearKnown = 0x3;

/// Header extension types (1.4).
inline constexpr uint32_t kExtensionEnd = 0;
inline constexpr uint32_t kExtensionBackingFormat = 0xE2792ACA;
inline constexpr uint32_t kExtensionFeatureNames = 0x6803F857;
inline constexpr uint32_t kExtensionCrypto = 0x0537BE77;
inline constexpr uint32_t kExtensionBitmaps = 0x23852875;
inline constexpr uint32_t kExtensionDataFile = 0x44415441;

struct RawExtension {
  be32 type;
  be32 length;
};
static_assert(sizeof(RawExtension) == 8);

struct RawFeatureName {
  uint8_t type;  // 0 incompatible, 1 compatible, 2 autoclear
  uint8_t bit;
  char name[46];
};
static_assert(sizeof(RawFeatureName) == 48);

struct RawBitmapsExtension {
  be32 bitmap_count;
  be32 reserved;
  be64 directory_size;
  be64 directory_offset;
};
static_assert(sizeof(RawBitmapsExtension) == 24);

struct RawCryptoExtension {
  be64 offset;
  be64 length;
};
static_assert(sizeof(RawCryptoExtension) == 16);

/// Fixed part of a snapshot table entry (QCOW2.md 7).
struct RawSnapshot {
  be64 l1_table_offset;
  be32 l1_size;
  be16 id_length;
  be16 name_length;
  be32 date_sec;
  be32 date_nsec;
  be64 vm_clock_nsec;
  be32 vm_state_size;
  be32 extra_data_size;
};
static_assert(sizeof(RawSnapshot) == 40);
static_assert(offsetof(RawSnapshot, extra_data_size) == 36);

/// The known start of a snapshot's extra data.
struct RawSnapshotExtra {
  be64 vm_state_size;
  be64 disk_size;
  be64 icount;
};
static_assert(sizeof(RawSnapshotExtra) == 24);

/// Fixed part of a bitmap directory entry (QCOW2.md 9).
struct RawBitmapEntry {
  be64 table_offset;
  be32 table_entries;
  be32 flags;
  uint8_t type;
  uint8_t granularity_bits;
  be16 name_length;
  be32 extra_data_size;
};
static_assert(sizeof(RawBitmapEntry) == 24);

}  // namespace imgconv::qcow2
