// `info` for people (CLI.md section 3). Pure functions but for the time zone; any thread.
#pragma once

#include <string>
#include <vector>

#include "cmd/image_facts.h"
#include "formats/image.h"

namespace imgconv {

/// All lines of one image, each with its newline.
std::string info_to_text(const ImageFacts& facts);

/// Header and one row per snapshot; dates are local time.
std::string snapshot_table(const std::vector<SnapshotInfo>& snapshots);

}  // namespace imgconv
