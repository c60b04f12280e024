// The target of a convert: what is checked, what is created, how it is opened.
//
// In steps, so that everything that can be refused is refused before an existing file is touched:
// prepare_target() and validate_target() harm nothing, create_target() is the first that does. Loop
// thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "engine/convert.h"
#include "engine/create_image.h"
#include "engine/image_chain.h"
#include "engine/messages.h"
#include "engine/plan.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct PreparedTarget {
  /// Nothing with -n.
  std::optional<PreparedCreate> create;
  /// The user named a backing file, by -B or -o.
  bool has_backing = false;
};

/// The arguments must outlive the task, here and below.
Task<Result<PreparedTarget>> prepare_target(Storage& storage, const ConvertOptions& options,
                                            uint64_t virtual_size, Messages& messages);

/// What creating it would refuse, and whether its future backing file is there.
Task<Result<void>> validate_target(Storage& storage, const ConvertOptions& options,
                                   const PreparedTarget& prepared, Messages& messages);

/// Creates the target unless -n.
Task<Result<void>> create_target(Storage& storage, const ConvertOptions& options,
                                 const PreparedTarget& prepared);

/// Opens it with its backing chain.
Task<Result<std::unique_ptr<ImageChain>>> open_target(Storage& storage,
                                                      const ConvertOptions& options,
                                                      const PreparedTarget& prepared,
                                                      Messages& messages);

/// What the plan has to know of the open target.
TargetFacts target_facts(ImageChain& chain, const ConvertOptions& options,
                         const PreparedTarget& prepared);

}  // namespace imgconv
