// rebase: another backing file for an image (CLI.md section 10).
//
// Safe: where the image has nothing of its own and the old and the new backing file differ, the old
// content is written into the image first; then the header gets the new name. Until then the image
// shows what it always showed, so an interrupted rebase does no harm. Unsafe: the header only.
// Loop thread only.
#pragma once

#include <optional>
#include <string>

#include "engine/messages.h"
#include "engine/open_image.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct RebaseOptions {
  /// The image; rebase() says how it is opened beyond name, format and cache.
  ImageRequest image;
  /// -b; empty or nothing: no backing file. Nothing needs `unsafe`.
  std::optional<std::string> backing_file;
  std::optional<std::string> backing_format;        ///< -F
  CacheMode backing_cache = CacheMode::kWriteback;  ///< -T
  bool force_share = false;                         ///< -U, of the new backing file.
  bool is_unsafe = false;                           ///< -u
  bool compress = false;                            ///< -c
};

/// On error the text is complete, without program name. Arguments must outlive the task.
Task<Result<void>> rebase(Storage& storage, const RebaseOptions& options, Messages& messages);

}  // namespace imgconv
