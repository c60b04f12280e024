// change_backing: another backing file in the header of an open qcow2 image, as rebase needs it.
//
// Only cluster 0 changes: what the guest sees afterwards is the caller's business. The caller sees
// to it that everything which relies on the new backing file is in the file already. Loop thread
// only.
#pragma once

#include <string>

#include "formats/qcow2/header.h"
#include "formats/qcow2/table_io.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Sets name and format, both empty for no backing file, in `header` and in the file. EINVAL for a
/// name that is too long or an image whose data file must be readable without it; ENOSPC when the
/// header has no room. After an error `header` is as it was. Arguments must outlive the task.
Task<Result<void>> change_backing(TableIo& io, Header& header, const std::string& name,
                                  const std::string& format);

}  // namespace imgconv::qcow2
