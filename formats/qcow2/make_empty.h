// make_empty: an open qcow2 image that holds nothing of its own any more (QCOW2.md 12), as commit
// leaves an overlay whose content is in the backing file.
//
// Two ways, as in QEMU: an image without snapshots, bitmaps and the like is cut back to its tables
// and the file truncated; any other keeps its L2 tables, emptied. Either way what is given up is
// gone from the tables in the file before its refcounts fall, so a crash leaves leaks only. Loop
// thread only.
#pragma once

#include "formats/qcow2/header.h"
#include "formats/qcow2/table_io.h"
#include "formats/qcow2/writer.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Nothing counts but header, refcount structure and one L1 table.
bool can_cut_back(const Header& header);

/// Empties the L1 table, lets the refcounts say so and truncates the file. Whoever holds tables of
/// the image in memory must forget them. Requires: can_cut_back(), everything is in the file.
Task<Result<void>> cut_back(TableIo& io, const Header& header);

/// Empties every L2 entry of the active image and releases what it showed. Requires: nothing is
/// reserved.
Task<Result<void>> empty_tables(Writer& writer, const Header& header);

}  // namespace imgconv::qcow2
