// Writer: everything that changes an open qcow2 image: reserving and linking clusters, zeroing,
// compressed clusters, and the order in which metadata reaches the file.
//
// Metadata is changed in memory and written when the caches are full and at flush(), in the order
// that leaves nothing worse than leaks when a crash cuts it: data and refcounts, L2 tables, the L1
// table, and only then the refcounts of what was released, which nobody gets before. Between the
// steps the files are flushed, unless they ignore it (cache mode unsafe); then released space is
// reused at once. Lazy refcounts are permitted to be eager, and are (decision F10).
//
// Loop thread only; the owner (image.h) lets in one task at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/image.h"
#include "formats/qcow2/allocator.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/l2_tables.h"
#include "formats/qcow2/metadata.h"
#include "formats/qcow2/pending.h"
#include "formats/qcow2/refcount.h"
#include "formats/qcow2/snapshot.h"
#include "formats/qcow2/table_io.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

class Writer {
 public:
  /// All of them must outlive it. `data_file` is `io`'s file unless there is an external one.
  Writer(Header& header, TableIo& io, L2Tables& tables, File& data_file, Allocator::FileFacts file);

  /// Reads the refcount table. First.
  Task<Result<void>> start();
  /// No write may hit the L1 tables of these, which are all that the image has. Again when there
  /// are others.
  void protect_snapshots(std::span<const Snapshot> snapshots);

  /// As in Image.
  Task<Result<std::vector<HostRun>>> reserve(uint64_t guest_offset, uint64_t length);
  Task<Result<void>> link(uint64_t guest_offset, uint64_t length);
  Task<Result<void>> write_zeroes(uint64_t guest_offset, uint64_t length, bool may_unmap);
  Task<Result<HostRun>> reserve_compressed(uint64_t guest_offset, uint64_t payload);
  Task<Result<void>> flush(bool sync);
  Task<Result<void>> close();

  struct PreallocateOptions {
    /// The range begins inside a cluster that has space: its part of the range becomes zeros, too.
    bool zeroes_head = false;
    /// The subclusters of extended entries are shown; otherwise they stay unallocated.
    bool fills_subclusters = false;
    /// New space keeps what the file holds there, rather than becoming zeros.
    bool shows_old_bytes = false;
  };
  /// Host space for every cluster of the range that has none, shown as data of zeros. Returns where
  /// it is.
  Task<Result<std::vector<HostRun>>> preallocate(uint64_t guest_offset, uint64_t guest_end,
                                                 PreallocateOptions options);
  /// The clusters from `guest_cluster` on are in this space from now on, which is theirs already.
  Task<Result<void>> map_clusters(uint64_t guest_cluster, HostClusters space,
                                  SubclusterBitmap bitmap);
  /// Empties the entries of guest clusters [first, end), which one L2 table covers, and returns
  /// what they were: the caller releases it once that is in the file.
  Task<Result<std::vector<L2Entry>>> take_entries(uint64_t first, uint64_t end);
  /// The file has other refcount structures now and is used up to this cluster; the header says so.
  Task<Result<void>> reload_refcounts(uint64_t end_cluster);

  void set_backing_reader(BackingReader reader) { backing_reader_ = std::move(reader); }
  /// Who hears of damage that does not stop the work: clusters that cannot be freed and leak.
  void set_remark(std::function<void(const std::string& line)> remark);
  Refcounts& refcounts() { return refcounts_; }
  /// For operations that place metadata of their own. What they allocate reaches the file with
  /// flush(); what they release is free after it.
  Allocator& allocator() { return allocator_; }
  /// What was written to the files so far reaches the medium before what is written next.
  Task<Result<void>> barrier();
  /// Where guest clusters lie: the image's own file, or the external one.
  File& data_file() { return data_file_; }
  Metadata metadata() { return {header_, io_, tables_, refcounts_, allocator_, *this}; }

 private:
  /// What part of which cluster a request touches; `end` is at most the cluster size.
  struct ClusterPart {
    uint64_t guest_cluster = 0;
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  /// Where the bytes of a cluster come from that is written in part only.
  enum class Below : uint8_t { kZeros, kBacking, kOldCluster };

  uint64_t cluster_size() const { return header_.cluster_size(); }
  bool has_backing() const { return !header_.backing_file.empty(); }
  uint32_t all_subclusters() const { return header_.has_extended_l2() ? 0xffffffff : 1; }
  /// The subclusters that [begin, end) touches.
  uint32_t touched(uint64_t begin, uint64_t end) const;
  bool owns_host_cluster(L2Entry entry) const;
  /// The file is to be at least this long when it is closed.
  void note_end(uint64_t host_offset) { file_end_ = std::max(file_end_, host_offset); }
  /// The same for guest data, which may be in another file.
  void note_data_end(uint64_t host_offset) {
    if (!format_.has_data_file) note_end(host_offset);
  }
  /// Subclusters whose bytes are in the entry's host cluster.
  uint32_t data_subclusters(L2Entry entry) const;
  /// EIO when nobody knows what the entry means, or writing in place would harm others.
  Result<void> check_entry(const L2Page& page, uint64_t index, uint64_t guest_offset) const;

  // writer.cc: reserving and linking.
  Task<Result<L2Page>> page_for_write(uint64_t guest_cluster);
  Task<Result<uint64_t>> reserve_pending(PendingClusters::Iterator run, uint64_t guest_offset,
                                         uint64_t guest_end, std::vector<HostRun>& runs);
  Task<Result<uint64_t>> reserve_unlinked(uint64_t guest_offset, uint64_t guest_end,
                                          std::vector<HostRun>& runs);
  Task<Result<void>> reserve_in_place(const ClusterPart& part, L2Entry entry,
                                      std::vector<HostRun>& runs);
  Task<Result<uint64_t>> reserve_new(uint64_t guest_offset, uint64_t guest_end, const L2Page& page,
                                     std::vector<HostRun>& runs);
  /// How many clusters from `guest_cluster` on have no space of their own, as far as QEMU looks at
  /// once: to the end of the L2 slice. Requires: the first one has none.
  uint64_t count_unowned(const L2Page& page, uint64_t guest_cluster, uint64_t end_cluster);
  void append_run(std::vector<HostRun>& runs, uint64_t guest_offset, uint64_t host_offset,
                  uint64_t length) const;
  Task<Result<void>> link_run(uint64_t guest_cluster, uint64_t clusters, const PendingRun& run);
  Task<Result<void>> link_compressed(uint64_t guest_cluster, const PendingRun& run);
  /// Shows what is pending of the cluster, whoever holds it: a request of another kind wants it.
  Task<Result<void>> link_early(uint64_t guest_cluster);
  L2Entry linked_entry(L2Entry old, const PendingRun& run, uint64_t host_offset) const;

  /// `gives_up`: its space is to go back to the file system when nobody uses it any more.
  Task<Result<void>> release_cluster(L2Entry old, bool gives_up = false);

  // writer_resize.cc
  Task<Result<uint64_t>> preallocate_run(uint64_t guest_cluster, uint64_t end_cluster,
                                         PreallocateOptions options, std::vector<HostRun>& runs);

  // writer_fill.cc: the rest of a partly written cluster.
  Task<Result<void>> fill_around(const ClusterPart& part, L2Entry old, uint64_t host_offset,
                                 bool reads_as_zeros);
  Task<Result<void>> fill_owned(const ClusterPart& part, uint32_t written, L2Entry entry,
                                uint64_t host_offset);
  Task<Result<void>> fill(uint64_t guest_cluster, uint64_t begin, uint64_t end, L2Entry old,
                          uint64_t host_offset, bool reads_as_zeros);
  Below below(L2Entry old, uint64_t offset_in_cluster) const;
  /// Where `below` says the same as at `begin`, up to `end`.
  uint64_t end_of_source(L2Entry old, uint64_t begin, uint64_t end) const;
  /// Remembers a part of a new cluster in which the file has a hole that reads as zeros.
  void note_hole(uint64_t host_offset, uint64_t length);
  Task<Result<void>> allocate_holes();
  /// Requires: `bytes` is fill_buffer_ from `offset_in_cluster` on.
  Task<Result<void>> read_old(L2Entry old, uint64_t offset_in_cluster, std::span<std::byte> bytes);
  Task<Result<void>> read_backing(uint64_t guest_offset, std::span<std::byte> bytes);

  // writer_zero.cc
  Task<Result<uint64_t>> zero_clusters(uint64_t guest_offset, uint64_t guest_end, bool may_unmap);
  Task<Result<uint64_t>> zero_in_page(const L2Page& page, uint64_t first, uint64_t end_cluster,
                                      bool may_unmap);
  Task<Result<void>> zero_part(const ClusterPart& part, bool may_unmap);
  /// A unit is what has a zero flag of its own: a subcluster, or the cluster. Zeros that cover it
  /// in part make all of it zero when the rest of it is.
  Task<Result<bool>> is_rest_zero(const ClusterPart& part, L2Entry entry);
  Task<Result<void>> zero_units(const ClusterPart& part, bool may_unmap);
  Task<Result<void>> zero_unit(const ClusterPart& part, bool may_unmap);
  Task<Result<void>> zero_subclusters(uint64_t guest_cluster, uint32_t subclusters);
  Task<Result<void>> write_real_zeroes(uint64_t guest_offset, uint64_t length);
  L2Entry zeroed_entry(L2Entry old, bool is_released) const;

  // writer_flush.cc
  /// Refcounts may lie: what is metadata now must not be handed out.
  void protect_metadata();
  Task<Result<void>> write_l2_back();
  /// Makes room among what waits for a flush. For the begin of a request.
  Task<Result<void>> free_much_released();
  void note_given_up(HostClusters range);
  /// Punches holes where what was given up is free by now.
  Task<Result<void>> discard_given_up();
  Task<Result<void>> release_pending();
  Task<Result<void>> extend_file();

  Header& header_;
  TableIo& io_;
  L2Tables& tables_;
  File& data_file_;
  const L2Format format_;
  Refcounts refcounts_;
  Allocator allocator_;
  /// The L1 tables of the snapshots.
  std::vector<HostClusters> snapshot_tables_;
  const bool is_ordered_;
  PendingClusters pending_;
  BackingReader backing_reader_;
  std::function<void(const std::string& line)> remark_;
  bool has_remarked_ = false;
  /// One cluster; allocated when first needed.
  std::vector<std::byte> fill_buffer_;
  struct HostRange {
    uint64_t host_offset = 0;
    uint64_t length = 0;
  };
  std::vector<HostRange> holes_;
  /// In the order of release; neighbours are one range.
  std::vector<HostClusters> given_up_;
  uint64_t file_end_ = 0;
};

}  // namespace imgconv::qcow2
