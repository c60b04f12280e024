// convert --bitmaps: the persistent bitmaps of the source's top layer become those of the target,
// by name, granularity, state and content. Loop thread only.
#pragma once

#include "engine/concat_source.h"
#include "engine/convert.h"
#include "engine/convert_target.h"
#include "engine/messages.h"
#include "formats/image.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// What can be refused before the target is touched, of the source and of a target to be created;
/// the validity of other options is looked at between the two.
Result<void> check_source_bitmaps(const ConcatSource& source, const ConvertOptions& options);
Result<void> check_created_bitmaps(const PreparedTarget& target);

/// The same for a target that existed: "Format driver 'raw' does not support bitmaps".
Result<void> check_target_bitmaps(Image& target);

/// After the copy, so that it leaves no traces in the new bitmaps. The arguments must outlive the
/// task.
Task<Result<void>> copy_bitmaps(Image& source, Image& target, const ConvertOptions& options,
                                Messages& messages);

}  // namespace imgconv
