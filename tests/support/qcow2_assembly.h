// Qcow2Assembly: turns what a Qcow2Builder was told into the bytes of an image. Used by build()
// only; one object, one image. Shares no code with formats/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "tests/support/qcow2_builder.h"

namespace imgconv::test {

/// The low `width` bytes of the value, highest first.
std::vector<std::byte> big_endian(uint64_t value, unsigned width);

class Qcow2Assembly {
 public:
  explicit Qcow2Assembly(const Qcow2Builder& builder);
  BuiltQcow2 assemble();

 private:
  using Entry = Qcow2Builder::Entry;
  using EntryKind = Qcow2Builder::EntryKind;
  using GuestMap = Qcow2Builder::GuestMap;

  /// An L2 table; two roots that see the same share it.
  struct Table {
    uint64_t l1_index = 0;
    GuestMap entries;
    uint64_t host_offset = 0;
  };
  /// An L1: the active one, then one per snapshot.
  struct Root {
    uint64_t host_offset = 0;
    /// Table number by L1 index.
    std::map<uint64_t, size_t> tables;
  };

  // In the order in which they run.
  void collect_tables(const GuestMap& guest, bool is_active);
  void place_everything();
  void place(uint64_t table_clusters, uint64_t block_clusters);
  void place_allocations();
  void count_references();
  void count_entry(const Entry& entry);
  void write_header();
  void write_extensions_and_backing_name(uint64_t position);
  void write_tables();
  void write_entry(const Table& table, uint64_t guest_cluster, const Entry& entry);
  void write_roots();
  void write_snapshot_table();
  void write_allocations();
  void apply_table_lies();
  void write_refcounts();
  void apply_length_and_pokes();

  std::vector<std::byte> snapshot_table() const;
  std::vector<std::byte> snapshot_entry(size_t index) const;
  bool is_in_data_file(EntryKind kind) const;
  uint64_t host_offset_of(uint64_t guest_cluster, const Entry& entry) const;
  uint64_t compressed_entry(uint64_t host_offset, uint64_t length) const;
  uint64_t clusters_for(uint64_t bytes) const { return (bytes + cs_ - 1) / cs_; }
  uint64_t reference_flag(uint64_t host_offset) const;
  void put(uint64_t host_offset, std::span<const std::byte> bytes);
  void put_be(uint64_t host_offset, uint64_t value, unsigned width);
  void put_refcount(uint64_t host_cluster, uint64_t value);

  const Qcow2Builder& b_;
  const uint64_t cs_;
  const uint64_t refcounts_per_block_;
  uint64_t l1_entries_ = 0;
  std::vector<Table> tables_;
  std::vector<Root> roots_;
  uint64_t table_clusters_ = 0;
  /// All before the L2 tables: clusters that are used exactly once.
  uint64_t fixed_clusters_ = 0;
  uint64_t next_cluster_ = 0;
  std::vector<uint64_t> allocation_offsets_;
  std::map<uint64_t, uint64_t> references_;
  BuiltQcow2 built_;
};

}  // namespace imgconv::test
