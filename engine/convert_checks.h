// ConvertChecks: what --digest and --verify add to a convert: the witness of the copy, reading the
// target back, and the results.
//
// A digest of the disk comes out of the pass of the copy. So does one of a new raw file, which is
// the disk; other files are written in no order and read once more when they are complete. Loop
// thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/convert.h"
#include "engine/copy_witness.h"
#include "engine/image_chain.h"
#include "engine/messages.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

class ConvertChecks {
 public:
  /// Harms nothing. Errors: an unknown algorithm, a disk of which the copy does not see all.
  /// `options` must outlive it.
  static Result<ConvertChecks> make(const ConvertOptions& options, bool target_has_backing);

  /// `file_is_disk`: a new raw file.
  Result<void> begin(bool file_is_disk);
  /// Null when nobody has to look.
  CopyWitness* witness() { return witness_.get(); }

  /// The target is written and flushed, but not yet said to be complete.
  Task<Result<void>> verify(Storage& storage, ImageChain& target, Messages& messages);
  /// The target is closed; `name` is that of its file.
  Task<Result<void>> add_file_digests(Storage& storage, const std::string& name);

  /// In the order in which they were asked for.
  std::vector<DigestValue> take_digests();

 private:
  explicit ConvertChecks(const ConvertOptions& options) : options_(&options) {}
  /// Does this one come out of the pass of the copy?
  bool is_witnessed(const DigestRequest& request) const {
    return !request.of_file || file_is_disk_;
  }
  std::vector<std::string> algorithms(bool witnessed) const;

  const ConvertOptions* options_;
  bool file_is_disk_ = false;
  std::unique_ptr<CopyWitness> witness_;
  std::vector<std::string> file_digests_;
};

}  // namespace imgconv
