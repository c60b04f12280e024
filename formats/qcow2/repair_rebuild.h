// Builds the refcount structures of an image anew, when the old ones are lost or lie in each
// other's place: blocks and a table for what `check` counted (QCOW2.md 13, step 3). Loop thread
// only.
#pragma once

#include "formats/qcow2/check_context.h"
#include "formats/qcow2/header.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// The new structures stand in clusters without references, and the header, which is the context's,
/// points to them only when they are complete on disk: a crash leaves the old ones. Those become
/// leaks. An error's text is the line that is due, without the program's name.
Task<Result<void>> rebuild_refcounts(CheckContext& context, Header& header);

}  // namespace imgconv::qcow2
