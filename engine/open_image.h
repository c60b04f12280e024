// From a name as the user wrote it to open images: file: and json: names, --image-opts, probing,
// backing chains with loop detection, external data files. Error texts are those of CLI.md 1.4-1.6,
// complete: "Could not open 'NAME': REASON". Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/image_chain.h"
#include "engine/messages.h"
#include "formats/image_limits.h"
#include "loop/result.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

struct ImageRequest {
  /// Path, "file:PATH", "json:{...}", or an option string with `image_opts`.
  std::string name;
  /// -f; probe when empty.
  std::string format;
  bool image_opts = false;
  bool writable = false;
  CacheMode cache = CacheMode::kWriteback;
  bool force_share = false;
  /// Others may not write to any layer meanwhile, not even to a raw one.
  bool refuses_writers = false;
  /// A raw image may be made longer or shorter; other formats always may.
  bool may_resize = false;
  /// Open the backing chain too.
  bool with_backing = true;
  bool for_check = false;
  bool metadata_only = false;
  /// As in OpenImageOptions, for every layer.
  bool refuse_truncated = false;
  /// As there, for the top layer.
  std::optional<uint64_t> incomplete_size;
  /// The image comes from a stranger (engine/untrusted.h).
  std::optional<ImageLimits> untrusted;
  /// Begin errors with "Could not open 'NAME': ".
  bool name_in_errors = true;
};

/// Opens the image and, unless told otherwise, its whole chain. Both arguments must outlive the
/// task.
Task<Result<std::unique_ptr<ImageChain>>> open_image(Storage& storage, const ImageRequest& request,
                                                     Messages& messages);

/// What is said of a raw image that was opened for writing without a format.
void warn_of_guess(const std::string& name, Messages& messages);

/// Opens a layer below the top again, for writing. Its file is closed first, since a lock of our
/// own would be in the way. The error says what the file says; the chain may then only be closed.
/// Requires: open_image() has opened the chain.
Task<Result<void>> reopen_writable(Storage& storage, ImageChain& chain, unsigned depth,
                                   CacheMode cache, Messages& messages);

/// Where the layer's backing file really is: what its header says, relative to the directory of its
/// file, also when the layer was opened by a json: name.
Result<std::string> backing_name_of(const Layer& layer);

/// The name of a backing file as seen from the overlay's own name: absolute or with a protocol as
/// it is, else relative to the overlay's directory part (QCOW2.md section 6). Error for a relative
/// name under a json: overlay.
Result<std::string> resolve_backing_name(const std::string& overlay_name,
                                         const std::string& backing_name);

}  // namespace imgconv
