#include "engine/snapshot_selector.h"

#include <fmt/core.h>

#include <cerrno>

#include "engine/option_pieces.h"

namespace imgconv {

Result<SnapshotSelector> parse_snapshot_selector(std::string_view text, Messages& messages) {
  SnapshotSelector selector;
  if (!text.starts_with("snapshot.")) {
    selector.id_or_name = std::string(text);
    return selector;
  }
  for (const OptionPiece& piece : split_option_pieces(text)) {
    if (piece.name == "snapshot.id") {
      selector.id = piece.value;
    } else if (piece.name == "snapshot.name") {
      selector.name = piece.value;
    } else {
      messages.error(fmt::format("Invalid parameter '{}'", piece.name));
      return Error(EINVAL, fmt::format("Failed in parsing snapshot param '{}'", text));
    }
  }
  return selector;
}

Result<std::string> select_snapshot(const SnapshotSelector& selector,
                                    std::span<const SnapshotInfo> snapshots) {
  if (selector.id_or_name) return *selector.id_or_name;
  for (const SnapshotInfo& snapshot : snapshots) {
    const bool matches_id = !selector.id || *selector.id == snapshot.id;
    const bool matches_name = !selector.name || *selector.name == snapshot.name;
    if (matches_id && matches_name) return snapshot.id;
  }
  return Error(ENOENT, "Can't find snapshot");
}

}  // namespace imgconv
