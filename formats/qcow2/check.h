// check: is the metadata of a qcow2 image consistent? Counts every reference anew, compares with
// the stored refcounts and verifies the copied bits (QCOW2.md 13, CLI.md 7); repairs what it may.
// Reads and writes the tables itself, so that a fault of the driver's caches cannot hide one of the
// image. Loop thread.
#pragma once

#include "formats/image.h"
#include "formats/qcow2/header.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Changes nothing. An external data file is not read. Lines go to `sink` in QEMU's order and
/// words. An error means that the check did not get to its end: its code is that of QEMU's "Check
/// failed: ", its text the line that is due before (printed with the program's prefix), empty when
/// `sink` got everything.
Task<Result<CheckReport>> check(File& file, const Header& header, const CheckSink& sink);

/// The same, and repairs what `mode` allows, so that a crash in between leaves nothing worse than
/// there was. `header` follows what changes in the file; all else that was read of the image before
/// is out of date. Nothing else may use the image meanwhile.
Task<Result<CheckReport>> repair(File& file, Header& header, RepairMode mode,
                                 const CheckSink& sink);

}  // namespace imgconv::qcow2
