// Another width of refcount entries: a second set of refcount structures is written behind
// everything that is in use, then the header changes over in one write (QCOW2.md 12). The old set
// is free from then on, since nothing of it is counted in the new one. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>

#include "formats/qcow2/writer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// "Cannot decrease refcount entry width to N bits: Cluster at offset X has a refcount of Y",
/// before anything is written. `progress` may be empty; it must outlive the task. Requires: what
/// the writer has in memory was flushed.
Task<Result<void>> change_refcount_width(
    Writer& writer, unsigned refcount_order,
    const std::function<void(uint64_t done, uint64_t total)>& progress);

}  // namespace imgconv::qcow2
