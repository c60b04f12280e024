// What `amend -o` may change of a qcow2 image, parsed and checked as far as no cluster must be
// looked at (CLI.md 11). Loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "formats/image.h"
#include "formats/options.h"
#include "formats/qcow2/header.h"
#include "formats/qcow2/snapshot.h"
#include "loop/result.h"

namespace imgconv::qcow2 {

const OptionList& amend_options();

/// The image as it is to become; a field that was not given has the value it has.
struct AmendPlan {
  uint32_t version = 3;
  unsigned refcount_order = 4;
  bool has_lazy_refcounts = false;
  bool is_data_file_raw = false;
  /// Name of the data file to state; an empty one states none.
  std::optional<std::string> data_file;
  std::optional<uint64_t> virtual_size;
};

/// "Internal snapshots prevent downgrade of image".
Result<void> check_snapshots_fit_v2(const Header& header, std::span<const Snapshot> snapshots);

/// Every refusal that does not depend on clusters, so that nothing has changed when it comes.
/// Only the snapshots of an image that is resized too are left to check_snapshots_fit_v2().
Result<AmendPlan> plan_amend(const Header& header, std::span<const Snapshot> snapshots,
                             const AmendRequest& request);

}  // namespace imgconv::qcow2
