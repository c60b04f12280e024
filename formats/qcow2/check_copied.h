// The part of `check` that holds the copied bits of the active L1 and L2 tables against the stored
// refcounts, and sets them right (QCOW2.md 13, step 4). Loop thread only.
#pragma once

#include "formats/qcow2/check_compare.h"
#include "formats/qcow2/check_context.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Repairs the bits if `may_repair`; the stored refcounts must be right then. A table that stands
/// where other metadata is, is not written: EIO, and context.has_found_overlap.
Task<Result<void>> check_copied_bits(CheckContext& context, StoredRefcounts& stored,
                                     bool may_repair);

}  // namespace imgconv::qcow2
