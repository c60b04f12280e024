// SnapshotSelector: what -l names. "ID_OR_NAME", or "snapshot.id=..,snapshot.name=..".
// Values and pure functions, any thread; but load_snapshot() on the loop thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/messages.h"
#include "formats/image.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

struct SnapshotSelector {
  /// Taken as an id first, then as a name.
  std::optional<std::string> id_or_name;
  /// Both must match when both are given.
  std::optional<std::string> id;
  std::optional<std::string> name;
};

/// "Failed in parsing snapshot param 'X'", after the reason was given to `messages`.
Result<SnapshotSelector> parse_snapshot_selector(std::string_view text, Messages& messages);

/// The image shows the snapshot instead of its present state. "Failed to load snapshot: REASON".
/// The arguments must outlive the task.
Task<Result<void>> load_snapshot(Image& image, const SnapshotSelector& selector);

}  // namespace imgconv
