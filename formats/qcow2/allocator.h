// Allocator: which host clusters a qcow2 image uses next: first fit from the lowest free cluster,
// as QEMU does, so that a fresh image is laid out in the order of the requests.
//
// It also places what counts the clusters: new refcount blocks and a larger refcount table. Knows
// nothing of guest offsets. Loop thread only, one task at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/qcow2/protected_clusters.h"
#include "formats/qcow2/refcount.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Clusters handed out, each with refcount 1.
struct AllocatedClusters {
  HostClusters clusters;
  /// Nothing was ever written there and the file gives zeros for it.
  bool reads_as_zeros = false;
};

class Allocator {
 public:
  struct FileFacts {
    uint64_t length = 0;
    bool extends_with_zeros = true;
    /// What was released may still be referred to by the file, so that it is not free before
    /// free_released(). Without it, it is free at once.
    bool frees_late = true;
  };

  /// `refcounts` must outlive it.
  Allocator(Refcounts& refcounts, unsigned cluster_bits, FileFacts file);

  /// Clusters that must never be handed out, whatever the refcounts of a damaged image say.
  ProtectedClusters& protected_clusters() { return protected_; }
  /// EIO when the range holds metadata of another kind than `allowed`.
  Result<void> check_unprotected(HostClusters range,
                                 std::optional<MetadataKind> allowed = std::nullopt) const;

  /// So many free clusters that follow each other, the first that are found. `use`: what for, as a
  /// report of damage names it.
  Task<Result<AllocatedClusters>> allocate(uint64_t clusters, std::string_view use = "");
  /// The same for tables, which are written as a whole.
  Task<Result<HostClusters>> allocate_contiguous(uint64_t clusters);
  /// Counts [start, the end that is returned) as used, where it puts the refcount table and what
  /// blocks are missing to count everything before the end and `further_clusters` more.
  /// `leaves_room`: half as many table entries again, so that growing stays rare. Requires: nothing
  /// from `start` on is in use.
  Task<Result<uint64_t>> move_table(uint64_t start, uint64_t further_clusters, bool leaves_room);
  /// Counts these clusters as used. Requires: they are free and there are blocks that count them.
  Task<Result<void>> take(HostClusters range);
  /// Room for one compressed stream: behind the last one if it fits there (QCOW2.md 4.2). Adds one
  /// to the count of every cluster it touches. Requires: 0 < bytes < cluster size.
  Task<Result<uint64_t>> allocate_bytes(uint64_t bytes);
  /// Nobody in memory refers to the clusters any more: takes one from each count, when the file
  /// cannot refer to them either. Clusters whose count is 0 then are free.
  Task<Result<void>> release(HostClusters range);
  /// Releases the clusters that [host_offset, host_offset + length) touches.
  Task<Result<void>> release_bytes(uint64_t host_offset, uint64_t length);
  /// As release(), at once: for clusters to which the file never referred, or does no more. True
  /// when one became free.
  Task<Result<bool>> release_unused(HostClusters range);
  /// The same, except that a wrong count is only told of (set_remark): no reason to fail for who
  /// has changed the image already.
  Task<Result<void>> free(HostClusters range);
  /// May what a table entry names be released? Entries lie: metadata of another kind than
  /// `expected` keeps its count, and who listens to set_remark() hears of it.
  bool may_release(HostClusters range, std::optional<MetadataKind> expected = std::nullopt) const;
  /// Requires: the file refers to nothing that was released; a flush has seen to it.
  Task<Result<void>> free_released();
  /// Who hears of clusters that cannot be freed, since their counts are wrong: they may leak.
  void set_remark(std::function<void(const std::string& line)> remark) {
    remark_ = std::move(remark);
  }
  /// Who knows of uncounted clusters that must stay free: returns the end of what of the range
  /// must.
  void set_avoided(std::function<std::optional<uint64_t>(HostClusters)> end_of_avoided) {
    end_of_avoided_ = std::move(end_of_avoided);
  }
  bool has_released() const { return !released_.empty(); }
  /// So much was released that a flush is worth its time.
  bool has_many_released() const;
  /// Writes the refcounts out and releases what a moved refcount table left behind.
  Task<Result<void>> flush();

  /// The refcounts are others now, of a file that is used up to `end_cluster`. Nothing is protected
  /// then.
  void restart(uint64_t end_cluster);
  /// The file ends before this cluster from now on.
  void cut_file(uint64_t end_cluster) { high_water_ = std::min(high_water_, end_cluster); }

 private:
  /// Free clusters that nobody is offered again, but not yet counted nor checked.
  Task<Result<HostClusters>> take_free(uint64_t clusters);
  Result<void> check_place(HostClusters range, std::string_view use) const;
  /// The first cluster of the range for which there is no refcount block.
  std::optional<uint64_t> first_uncounted(HostClusters range) const;
  /// Adds the block for that cluster, or one that must be there before.
  Task<Result<void>> add_block(uint64_t uncounted_cluster);
  void note_use(HostClusters range);

  Refcounts& refcounts_;
  const unsigned cluster_bits_;
  const bool extends_with_zeros_;
  const bool frees_late_;
  ProtectedClusters protected_;
  std::function<void(const std::string& line)> remark_;
  std::function<std::optional<uint64_t>(HostClusters)> end_of_avoided_;
  /// Where the search for free clusters begins: smaller gaps may have been passed over.
  uint64_t first_candidate_ = 0;
  /// No cluster from here on was ever used.
  uint64_t high_water_ = 0;
  /// Refcount blocks added so far.
  uint64_t added_blocks_ = 0;
  /// Where the next compressed stream may begin; 0: nowhere yet.
  uint64_t next_free_byte_ = 0;
  /// Where the refcount table stood while the file still says so.
  std::vector<HostClusters> old_tables_;
  /// In the order of release(); neighbours are one range.
  std::vector<HostClusters> released_;
};

}  // namespace imgconv::qcow2
