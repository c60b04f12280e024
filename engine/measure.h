// measure: how many bytes a target would need (CLI.md section 6). Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/image_chain.h"
#include "engine/messages.h"
#include "formats/driver.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

struct MeasureRequest {
  std::string target_format = "raw";
  std::string target_options;
  /// --size, bytes. Exactly one of size and chain is given.
  std::optional<uint64_t> size;
};

/// `chain` may be null. A snapshot, if any, was loaded by the caller. A bad -o makes two lines: the
/// first goes to `messages` if there are any, the second is the error.
Task<Result<MeasureReport>> measure(const MeasureRequest& request, ImageChain* chain,
                                    Messages* messages = nullptr);

}  // namespace imgconv
