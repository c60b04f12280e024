#include "engine/snapshot_selector.h"

#include <fmt/core.h>

#include <cerrno>
#include <span>

#include "engine/option_pieces.h"
#include "loop/try.h"

namespace imgconv {

namespace {

/// The name for Image::load_snapshot: an id, or what the user wrote.
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

Task<Result<void>> select_and_load(Image& image, const SnapshotSelector& selector) {
  std::string id_or_name;
  // An image without snapshots says itself whether its format could have any.
  if (!image.info().snapshots.empty()) {
    CO_ASSIGN_OR_RETURN(id_or_name, select_snapshot(selector, image.info().snapshots));
  }
  co_return co_await image.load_snapshot(id_or_name);
}

}  // namespace

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

Task<Result<void>> load_snapshot(Image& image, const SnapshotSelector& selector) {
  const Result<void> loaded = co_await select_and_load(image, selector);
  if (!loaded) co_return Error(loaded.error()).within("Failed to load snapshot");
  co_return ok();
}

}  // namespace imgconv
