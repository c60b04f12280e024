// measure_bitmaps: the bytes that the persistent dirty bitmaps of a source would need in a target
// (CLI.md section 6). Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "formats/driver.h"
#include "formats/image.h"
#include "formats/options.h"

namespace imgconv {

/// Nothing unless both source and target can have persistent bitmaps: qcow2 from version 3 on.
std::optional<uint64_t> measure_bitmaps(const ImageInfo& source, const BlockDriver& target,
                                        const OptionValues& target_options);

}  // namespace imgconv
