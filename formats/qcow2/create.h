// create: a new, empty qcow2 image, byte for byte as QEMU lays it out (QCOW2.md 11). The options of
// -o and their checks are in create_options.h, what places tables and data is the Writer that also
// serves images that exist. Loop thread only.
#pragma once

#include "formats/driver.h"
#include "formats/options.h"
#include "formats/qcow2/create_options.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv::qcow2 {

/// Everything that can be refused without touching a file.
Result<void> validate_create(const CreateImageOptions& options);

/// Writes the image into `file`, which is empty or a block device, and creates the external data
/// file if there is to be one. Both arguments must outlive the task.
Task<Result<void>> create(File& file, const CreateImageOptions& options);

}  // namespace imgconv::qcow2
