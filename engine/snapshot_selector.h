// SnapshotSelector: what -l names. "ID_OR_NAME", or "snapshot.id=..,snapshot.name=..".
// Values and pure functions, any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/messages.h"
#include "formats/image.h"
#include "loop/result.h"

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

/// The name for Image::load_snapshot: an id, or what the user wrote. "Can't find snapshot".
Result<std::string> select_snapshot(const SnapshotSelector& selector,
                                    std::span<const SnapshotInfo> snapshots);

}  // namespace imgconv
