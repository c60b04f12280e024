// bench: requests of one size at regular distances, so many of them at a time (CLI.md section 15).
//
// Every request goes through the image as a guest's would: mapping, the file's own reads and
// writes, metadata of new clusters. Loop thread only; takes no time itself.
#pragma once

#include <cstdint>

#include "engine/image_chain.h"
#include "loop/executor.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

struct BenchOptions {
  uint32_t count = 75000;
  uint32_t depth = 64;           ///< Requests in flight.
  uint64_t offset = 0;           ///< Of the first request, bytes.
  uint64_t request_size = 4096;  ///< Bytes.
  uint64_t step = 0;             ///< From one request to the next, bytes; 0: request_size.
  bool is_write = false;
  uint8_t pattern = 0;
  /// Writes between two flushes; 0: none.
  uint32_t flush_interval = 0;
  /// Requests in flight are waited for before a flush.
  bool drains_before_flush = true;

  uint64_t step_size() const { return step != 0 ? step : request_size; }
};

/// Sends all requests and waits for them. Offsets wrap at the end of the disk; EIO for a request
/// that reaches beyond it. "Failed request: ...". Arguments must outlive the task.
Task<Result<void>> bench(ImageChain& chain, const BenchOptions& options, Executor& executor);

}  // namespace imgconv
