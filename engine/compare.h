// compare: are two images the same disk? (CLI.md section 8). Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "engine/image_chain.h"
#include "engine/messages.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

enum class CompareVerdict : uint8_t {
  kIdentical,
  kContentMismatch,      ///< at `offset`
  kSizeMismatch,         ///< strict only
  kBlockStatusMismatch,  ///< strict only, at `offset`
  kBlockStatusFailed,    ///< of image `image`
  kReadFailed,           ///< at `offset` of image `image`
};

struct CompareOutcome {
  CompareVerdict verdict = CompareVerdict::kIdentical;
  uint64_t offset = 0;
  /// 0 or 1, for the failures.
  unsigned image = 0;
  /// errno text of the failure.
  std::string reason;
};

struct CompareOptions {
  bool strict = false;
  bool quiet = false;
  /// Called, unless it is null, when one image is longer and the common part was found equal,
  /// before the rest is looked at.
  std::function<void()> on_size_mismatch;
};

Task<CompareOutcome> compare(ImageChain& a, ImageChain& b, const CompareOptions& options,
                             Executor& executor, Messages& messages);

}  // namespace imgconv
