// TargetStaging: whole or nothing. Decides how the files of a convert's target come to their names,
// and what becomes of them when the run fails (decision E10).
//
// A target that does not exist yet has no name before it is complete. One that exists is filled in
// place, as its callers may hold it open: then it must not look complete while it is not. A qcow2
// image says so in its header (no size, the corrupt bit), anything else is emptied by the run that
// fails, which therefore lets a signal wait until it has cleaned up. Loop thread only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/convert.h"
#include "engine/convert_target.h"
#include "engine/image_chain.h"
#include "loop/interrupt.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

class TargetStaging {
 public:
  /// Harms nothing. Writes into `prepared` what the driver has to know. `storage` must outlive it.
  static Result<TargetStaging> begin(Storage& storage, const ConvertOptions& options,
                                     PreparedTarget& prepared);

  /// The target is complete and written out, but still open: its header stops saying that it is
  /// not, once the rest is durable.
  Task<Result<void>> complete(ImageChain& target) const;
  /// The target is closed: makes it durable if the user wants that, and gives it its name.
  Result<void> publish(ImageChain& target) const;
  /// The run failed; `target`, still open, is null when perform_create() has failed and cleaned up.
  /// What is left does not pass for an image.
  Task<Result<void>> give_up(ImageChain* target) const;

  /// The file that a run which cannot go on must empty, or null.
  const std::string* emptied_on_failure() const {
    return empties_on_failure_ ? &in_place_path_ : nullptr;
  }
  /// Whether a signal must wait for give_up().
  bool needs_interrupt_guard() const { return needs_guard_; }

 private:
  TargetStaging(Storage& storage, bool sync) : storage_(&storage), sync_(sync) {}

  Result<void> stage(const std::string& path, bool replaces);
  Result<void> sync_in_place(ImageChain& target) const;

  Storage* storage_;
  bool sync_;
  /// Files without a name, in the order in which they get it.
  std::vector<std::string> staged_;
  /// A new image in an existing file or on a device.
  bool is_in_place_ = false;
  std::string in_place_path_;
  /// What is in place cannot say that it is incomplete.
  bool empties_on_failure_ = false;
  bool needs_guard_ = false;
};

}  // namespace imgconv
