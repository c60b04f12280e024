// convert: the whole run, from options to a closed target. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/messages.h"
#include "engine/open_image.h"
#include "engine/snapshot_selector.h"
#include "loop/executor.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

/// --digest: of the disk as guests see it, or of the target's file.
struct DigestRequest {
  std::string algorithm;
  bool of_file = false;
};

struct DigestValue {
  DigestRequest request;
  std::string hexadecimal;
  /// The value is (also) that of the target's file: sha256sum of it says the same.
  bool is_of_file = false;
};

/// What the user asked, after parsing (CLI.md section 2). Combinations were checked by cmd/ as far
/// as they can be without opening anything.
struct ConvertOptions {
  std::vector<std::string> sources;
  std::string target;
  std::string source_format;          ///< -f; empty: probe.
  std::string target_format = "raw";  ///< -O
  std::string target_options;         ///< -o, joined with commas.
  bool source_image_opts = false;
  bool target_image_opts = false;
  bool force_share = false;  ///< -U
  /// --untrusted: the sources come from strangers.
  std::optional<ImageLimits> untrusted;
  bool compress = false;     ///< -c
  bool skip_create = false;  ///< -n
  bool target_is_zero = false;
  std::optional<std::string> backing_file;    ///< -B
  std::optional<std::string> backing_format;  ///< -F
  std::optional<SnapshotSelector> snapshot;   ///< -l
  uint64_t sparse_size = 4096;                ///< -S, bytes; 0: fully allocate
  unsigned coroutines = 8;                    ///< -m, 1..16
  bool out_of_order = false;                  ///< -W
  bool copy_range = false;                    ///< -C
  bool may_clone = false;                     ///< The target may share space with the source.
  bool salvage = false;
  bool bitmaps = false;  ///< --bitmaps
  bool skip_broken_bitmaps = false;
  uint64_t rate_limit = 0;  ///< -r, bytes per second; 0: none
  /// -p: what there is to copy is counted first, so that progress is that of the data.
  bool counts_data = false;
  /// Bytes of data that make a chunk; 0: what is fastest. The reproducer wants many small ones.
  uint64_t chunk_goal = 0;
  CacheMode source_cache = CacheMode::kWriteback;  ///< -T
  CacheMode target_cache = CacheMode::kUnsafe;     ///< -t
  /// An existing regular file is replaced when the copy is complete, instead of filled in place.
  bool replace = false;
  /// Target and name are on the disk when convert() is done, whatever the cache mode.
  bool sync = false;
  std::vector<DigestRequest> digests;
  /// The target is read back and compared with what was written.
  bool verify = false;
};

/// What the run did; for -v, tests and benchmarks.
struct ConvertSummary {
  uint64_t virtual_size = 0;
  uint64_t bytes_written = 0;
  uint64_t bytes_zero = 0;
  /// In the order of ConvertOptions::digests.
  std::vector<DigestValue> digests;
};

/// Copies. On error the text is complete, without program name. Arguments must outlive the task.
Task<Result<ConvertSummary>> convert(Storage& storage, const ConvertOptions& options,
                                     Messages& messages);

}  // namespace imgconv
