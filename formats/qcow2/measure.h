// measure: how many bytes a new qcow2 image needs, without creating it (QCOW2.md 11, CLI.md 6).
// Pure, any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/driver.h"
#include "loop/result.h"

namespace imgconv::qcow2 {

/// `ranges` is empty when only the size is known.
Result<MeasureReport> measure(const CreateImageOptions& options,
                              const std::vector<MeasureRange>& ranges);

}  // namespace imgconv::qcow2
