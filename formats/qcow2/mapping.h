// Mapping: from L2 entries to extents, with the boundaries of QEMU's block status (QCOW2.md 4, 5).
//
// An extent ends with its L2 slice (the 4 KiB of a table that QEMU loads at once), where the type
// changes or where host clusters do not follow each other; compressed clusters stand alone. Pure
// functions over loaded tables: no I/O, any thread.
#pragma once

#include <cstdint>

#include "formats/extent.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/l2_tables.h"
#include "loop/result.h"

namespace imgconv::qcow2 {

/// What extents need to know of their image.
struct MapContext {
  const Header& header;
  /// Of uncompressed clusters: the image or its external data file.
  File& data_file;
  File& image_file;
};

/// Entries of one L2 slice.
uint64_t slice_entries(const Header& header);

/// Appends the extents of [guest_offset, guest_end) as far as `page` knows them, but no more than
/// up to `max_extents` in all. Damage is an error, with the extents before it appended. Requires:
/// guest_offset lies in the page.
Result<void> append_extents(const MapContext& context, const L2Page& page, uint64_t guest_offset,
                            uint64_t guest_end, size_t max_extents, ExtentList& extents);

/// The same where no L2 table is: unallocated up to the end of the slice.
Extent unallocated_extent(const Header& header, uint64_t guest_offset, uint64_t guest_end);

}  // namespace imgconv::qcow2
