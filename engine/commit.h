// commit: the content of an overlay goes into a backing file (CLI.md section 10).
//
// What the layers above the base hold is written into the base, which grows if it is smaller; then
// the overlay is emptied unless it is to be dropped. The base is on the disk before the overlay
// loses anything, so an interrupted commit does the overlay no harm. Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/messages.h"
#include "engine/open_image.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct CommitOptions {
  /// The overlay; commit() says how it is opened beyond name, format and cache.
  ImageRequest image;
  /// -b, by any name that an overlay of the chain has for it; else what is right below.
  std::optional<std::string> base;
  /// -d: the overlay stays as it is, and is right no longer if it is not the base's only overlay.
  bool drops_overlay = false;
  uint64_t rate_limit = 0;  ///< -r, bytes per second; 0: none.
};

/// On error the text is complete, without program name. Arguments must outlive the task.
Task<Result<void>> commit(Storage& storage, const CommitOptions& options, Messages& messages);

}  // namespace imgconv
