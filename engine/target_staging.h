// TargetStaging: whole or nothing. Decides how the files of a target (convert, dd) come to their
// names, and what becomes of them when the run fails (decision E10).
//
// A target that does not exist yet has no name before it is complete. One that exists is filled in
// place, as its callers may hold it open: then it must not look complete while it is not. A qcow2
// image says so in its header (no size, the corrupt bit), anything else is emptied by the run that
// fails, which therefore lets a signal wait until it has cleaned up. Loop thread only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/image_chain.h"
#include "formats/driver.h"
#include "loop/out_of_memory.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct StagingRequest {
  std::string target;
  std::string format;
  /// An existing regular file is replaced.
  bool replaces = false;
  /// Files and names are durable after publish().
  bool sync = true;
  /// Stands before what is wrong with a name that is empty.
  std::string context;
};

class TargetStaging {
 public:
  /// Harms nothing. Writes into `create` what the driver has to know; null when nothing is created.
  /// `storage` must outlive it.
  static Result<TargetStaging> begin(Storage& storage, const StagingRequest& request,
                                     CreateImageOptions* create);

  /// While the target is filled: out of memory, it does not stay as a part of a copy. Not before it
  /// was created, since it may be refused as somebody else's.
  void guard_created(std::optional<EmergencyCleanup>& emergency) const;

  /// Closes a target whose filling ended so. If it was filled and written out, its header stops
  /// saying that it is not, once the rest is durable; otherwise as give_up(). The first error.
  Task<Result<void>> close(ImageChain& target, Result<void> filled,
                           const std::string& name_in_errors) const;
  /// The target is closed: makes it durable if the user wants that, and gives it its name.
  Result<void> publish(ImageChain& target) const;
  /// The run failed; `target`, still open, is null when perform_create() has failed and cleaned up.
  /// What is left does not pass for an image.
  Task<Result<void>> give_up(ImageChain* target) const;

  /// Whether a signal must wait for give_up().
  bool needs_interrupt_guard() const { return needs_guard_; }

 private:
  TargetStaging(Storage& storage, bool sync) : storage_(&storage), sync_(sync) {}

  Result<void> stage(const std::string& path, bool replaces);
  Task<Result<void>> complete(ImageChain& target) const;
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
