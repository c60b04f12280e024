// Metadata: the parts of an open image that operations on the image as a whole work with (resize,
// snapshots, amend). They order their writes themselves: refcounts reach the disk before what
// refers to clusters, and leave it after. Everything it refers to outlives it. Loop thread only.
#pragma once

#include "formats/qcow2/allocator.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/l2_tables.h"
#include "formats/qcow2/refcount.h"
#include "formats/qcow2/table_io.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class Writer;

struct Metadata {
  Header& header;
  TableIo& io;
  L2Tables& tables;
  Refcounts& refcounts;
  Allocator& allocator;
  Writer& writer;

  HostClusters clusters_of(HostOffset offset, uint64_t bytes) const {
    return {offset.bytes() >> header.cluster_bits,
            clusters_for(bytes, header.cluster_bits).value()};
  }
  HostClusters l1_clusters() const {
    return clusters_of(header.l1_table_offset, header.l1_entries * kTableEntryBytes);
  }
};

/// What was written to the files so far reaches the disk before what is written next.
Task<Result<void>> barrier(const Metadata& metadata);
/// Refcounts to the disk.
Task<Result<void>> flush_refcounts(const Metadata& metadata);

/// An L1 table of its own: `entries` of `l1`, zeros behind its end, in new clusters. On the disk
/// when it returns. Requires: entries >= l1.size().
Task<Result<HostClusters>> write_new_l1(const Metadata& metadata, std::span<const L1Entry> l1,
                                        uint64_t entries);

/// The header's size of the disk and place of the L1 table, in one write that no crash divides.
Task<Result<void>> write_disk_fields(const Metadata& metadata);

/// The host clusters of an entry go back to the file system, too, when nothing else uses them.
/// Requires: the file shows the entry no more.
Task<Result<void>> release_and_discard(const Metadata& metadata, L2Entry entry);

}  // namespace imgconv::qcow2
