// Header: cluster 0 of a qcow2 image as a checked value in host byte order, with its extensions and
// the backing file name (QCOW2.md 1).
//
// parse() and read_header() make every check that QEMU makes when it opens an image and that needs
// no other part of the file, in QEMU's order and words. serialize() gives the bytes QEMU would
// write. A plain value: the open image owns one and keeps it up to date. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/extent.h"
#include "formats/qcow2/entries.h"
#include "formats/qcow2/header_extension.h"
#include "formats/qcow2/on_disk.h"
#include "formats/qcow2/units.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"
#include "loop/units.h"

namespace imgconv::qcow2 {

enum class CryptMethod : uint32_t { kNone = 0, kAes = 1, kLuks = 2 };

/// Changes which damage is tolerated.
struct HeaderParseOptions {
  /// Corrupt images may then not be opened, except for_check and with an incomplete_size.
  bool writable = false;
  /// A missing refcount table and a bad snapshot table pointer are left to `check`.
  bool for_check = false;
  /// For who fills the image: its size, which is_incomplete keeps out of the file.
  std::optional<uint64_t> incomplete_size;
  /// For `info`: an encrypted image need not say where its keys are.
  bool metadata_only = false;
};

struct Header {
  uint32_t version = 3;
  unsigned cluster_bits = 16;
  uint64_t virtual_size = 0;  ///< As stated, bytes; see guest_size().
  CryptMethod crypt_method = CryptMethod::kNone;
  uint32_t l1_entries = 0;
  HostOffset l1_table_offset;
  HostOffset refcount_table_offset;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  HostOffset snapshot_table_offset;
  uint64_t incompatible_features = 0;
  uint64_t compatible_features = 0;
  uint64_t autoclear_features = 0;
  unsigned refcount_order = 4;
  Codec compression = Codec::kDeflate;
  /// Header fields behind those known, kept verbatim.
  std::vector<std::byte> unknown_fields;
  HeaderExtensions extensions;
  /// Empty: there is none.
  std::string backing_file;
  /// Somebody is filling the image. In the file the disk has no size until that is done, so that
  /// half a copy does not look whole, not even after a repair took the corrupt bit away.
  bool is_incomplete = false;

  uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
  /// The disk as guests see it: whole sectors, rounded down as QEMU does.
  uint64_t guest_size() const { return round_down(virtual_size, kSectorSize); }
  bool has(uint64_t incompatible_bit) const {
    return (incompatible_features & incompatible_bit) != 0;
  }
  bool is_dirty() const { return has(kIncompatDirty); }
  bool is_corrupt() const { return has(kIncompatCorrupt); }
  bool has_data_file() const { return has(kIncompatDataFile); }
  bool is_data_file_raw() const { return (autoclear_features & kAutoclearDataFileRaw) != 0; }
  bool has_extended_l2() const { return has(kIncompatExtendedL2); }
  bool has_lazy_refcounts() const { return (compatible_features & kCompatLazyRefcounts) != 0; }
  bool is_encrypted() const { return crypt_method != CryptMethod::kNone; }
  L2Format l2_format() const { return {cluster_bits, has_extended_l2(), has_data_file()}; }

  uint64_t l2_entry_bytes() const { return has_extended_l2() ? 16 : 8; }
  uint64_t l2_entries() const { return cluster_size() / l2_entry_bytes(); }
  /// Guest bytes that one L2 table covers.
  uint64_t l2_coverage() const { return l2_entries() << cluster_bits; }
  /// L1 entries that the disk needs; those behind hold VM state.
  uint64_t l1_entries_for_disk() const { return div_round_up(virtual_size, l2_coverage()); }
  /// Granularity of allocation: the subcluster, or the cluster without extended L2 entries.
  uint64_t subcluster_size() const {
    return has_extended_l2() ? cluster_size() / SubclusterBitmap::kSubclusters : cluster_size();
  }
  unsigned refcount_bits() const { return 1U << refcount_order; }
  uint64_t refcount_max() const {
    return refcount_order == 6 ? ~uint64_t{0} : (uint64_t{1} << refcount_bits()) - 1;
  }
  /// Host clusters that one refcount block counts.
  uint64_t refcount_block_entries() const { return cluster_size() * 8 >> refcount_order; }
  uint64_t refcount_table_entries() const {
    return refcount_table_clusters * (cluster_size() / kTableEntryBytes);
  }

  /// `cluster0` is the beginning of the file: cluster 0, or what there is of it. EINVAL for damage,
  /// ENOTSUP for what is not supported, EFBIG for tables beyond the limits, EACCES for corrupt
  /// images.
  static Result<Header> parse(std::span<const std::byte> cluster0,
                              const HeaderParseOptions& options = {});

  /// The whole first cluster, zero padded. ENOSPC when it does not fit.
  Result<std::vector<std::byte>> serialize() const;
};

/// True when the 512 bytes look like a qcow2 image of any version (QCOW2.md 1, probing).
bool probe(std::span<const std::byte> head);

/// Reads cluster 0 and parses it.
Task<Result<Header>> read_header(File& file, HeaderParseOptions options);

}  // namespace imgconv::qcow2
