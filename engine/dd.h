// dd: a part of an image, from one block to another, as a new image (CLI.md section 9).
//
// Unlike convert it looks for no zeros: every byte that is copied is written. Loop thread only.
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

struct DdOptions {
  ImageRequest input;
  std::string output;
  std::string output_format = "raw";
  uint64_t block_size = 512;
  /// Blocks of the input that count, from its begin; what is skipped is taken from them.
  std::optional<uint64_t> count;
  uint64_t skip = 0;  ///< Blocks.
};

/// On error the text is complete, without program name. Arguments must outlive the task.
Task<Result<void>> dd(Storage& storage, const DdOptions& options, Messages& messages);

}  // namespace imgconv
