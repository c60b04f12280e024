// ConvertPlan: everything that is decided about a copy, before the first byte of it moves.
//
// make_plan() is a pure function of what the user asked and of facts about the open images, so that
// policy is tested without I/O. The plan is constant from then on: cursor and workers obey it and
// contain no policy of their own. Values, any thread; offsets and sizes are guest bytes.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/convert.h"
#include "engine/sparse_split.h"
#include "formats/image.h"
#include "loop/result.h"

namespace imgconv {

/// Facts of the concatenated source.
struct SourceFacts {
  uint64_t virtual_size = 0;
  /// Some file of it is better read through the ring (File::prefers_async).
  bool prefers_async = false;
};

/// Facts of the open target.
struct TargetFacts {
  uint64_t virtual_size = 0;
  /// Guest bytes stand at their own offset of one file: raw.
  bool is_identity = false;
  bool prefers_async = false;
  uint64_t request_alignment = 1;
  uint64_t cluster_size = 0;
  /// This run created it.
  bool is_new = false;
  /// So it did, and as a regular file that held nothing.
  bool is_new_file = false;
  bool reads_as_zeros_initially = false;
  /// As Image says.
  bool holds_clusters = false;
  bool has_backing = false;
  /// Unknown when the backing image could not be asked.
  std::optional<uint64_t> backing_size;
  std::optional<CompressionInfo> compression;
};

/// What a worker does with a chunk (PERFORMANCE.md, "One trip per chunk").
enum class CopyStep : uint8_t {
  kFused,     ///< One pool job reads, decodes, scans and writes.
  kTwoTrips,  ///< One pool job reads; space is reserved in guest order; another one writes.
};

/// What happens to a range that is zero.
enum class ZeroAction : uint8_t {
  kSkip,         ///< The target reads as zeros already.
  kWriteZeroes,  ///< Told to the target, which may make a hole.
};

struct ConvertPlan {
  uint64_t virtual_size = 0;
  /// Larger than virtual_size when an existing target goes on behind the source.
  uint64_t target_size = 0;
  unsigned workers = 8;
  CopyStep step = CopyStep::kFused;
  bool target_is_identity = false;
  /// Source or target go through File and not through blocking calls.
  bool reads_async = false;
  bool writes_async = false;
  /// A CopyWitness looks at the bytes, which must therefore stand in memory: two trips.
  bool is_witnessed = false;

  /// Data is cut into runs of at most this; each run is split by itself.
  uint64_t max_run = 0;
  /// Runs are collected until a chunk holds this much data ...
  uint64_t chunk_goal = 0;
  /// ... and never more than this: the size of a worker's buffer.
  uint64_t chunk_capacity = 0;

  /// Not set: -S 0, zeros are written as data, whatever they came from.
  std::optional<SparseRule> sparse;
  ZeroAction zero_action = ZeroAction::kSkip;
  /// A chunk is linked before space is reserved for the next one: where that depends on what
  /// linking frees, or where zeros stand in one cluster with data.
  bool links_in_turn = false;
  /// kWriteZeroes may give space back.
  bool zeroes_may_unmap = true;
  /// -c: runs are whole clusters.
  std::optional<CompressionInfo> compression;

  /// Layers of the source that are asked for their status: 1 with a backed target.
  unsigned source_depth = 0;
  /// Areas that no asked layer holds show through from the target's backing image.
  bool unallocated_is_backing = false;
  /// Where that backing image ends: zeros behind it need not be written.
  std::optional<uint64_t> target_backing_size;

  bool salvage = false;
  bool copy_range = false;
  /// Progress is of the data, which is counted first; else of the disk.
  bool counts_data = false;
  /// Runs are shared with the source where the file system can (E15).
  bool clone = false;
  /// Bytes per second; 0: as fast as it goes.
  uint64_t rate_limit = 0;
};

/// "output file is smaller than input file", "invalid cluster size".
Result<ConvertPlan> make_plan(const ConvertOptions& options, const SourceFacts& source,
                              const TargetFacts& target);

}  // namespace imgconv
