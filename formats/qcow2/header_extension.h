// The header extensions of a qcow2 image (QCOW2.md 1.4): which there are, and reading and writing
// them. What is not known here is kept verbatim, so that rewriting a header loses nothing.
// Values, any thread. Header (header.h) owns one HeaderExtensions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/qcow2/units.h"
#include "loop/result.h"

namespace imgconv::qcow2 {

struct BitmapsExtension {
  uint32_t bitmap_count = 0;
  uint64_t directory_size = 0;
  HostOffset directory_offset;
};

struct CryptoExtension {
  HostOffset offset;
  uint64_t length = 0;
};

struct UnknownExtension {
  uint32_t type = 0;
  std::vector<std::byte> data;
};

struct HeaderExtensions {
  std::optional<std::string> backing_format;
  /// Name of the external data file as the image states it.
  std::optional<std::string> data_file;
  std::optional<CryptoExtension> crypto;
  std::optional<BitmapsExtension> bitmaps;
  /// Bitmaps are there, but a program that does not know them wrote to the image: they were dropped
  /// (QCOW2.md 1.3) and a warning is due, see kInconsistentBitmapsWarning.
  bool has_inconsistent_bitmaps = false;
  std::vector<UnknownExtension> unknown;
};

inline constexpr const char* kInconsistentBitmapsWarning =
    "a program lacking bitmap support modified this file, so all bitmaps are now considered "
    "inconsistent";

/// What the rest of the header says about the extensions.
struct ExtensionContext {
  unsigned cluster_bits = 16;
  uint32_t crypt_method = 0;
  bool has_bitmaps_feature = false;
};

/// Reads the extensions in [begin, end) of `cluster`. Bytes that are missing at the end of
/// `cluster` count as zeros.
Result<HeaderExtensions> parse_extensions(std::span<const std::byte> cluster, uint64_t begin,
                                          uint64_t end, const ExtensionContext& context);

/// The image's own names for the incompatible feature bits in `mask`, in the table's order and
/// comma separated, then "Unknown incompatible feature: MASK" for those without a name. Damage of
/// the extensions is ignored here: an image that is refused may be of any shape.
std::string describe_features(std::span<const std::byte> cluster, uint64_t begin, uint64_t end,
                              uint64_t mask);

/// Appends all extensions with the end marker to `out`, in QEMU's order. `with_feature_names`: the
/// table of names is included.
void append_extensions(std::vector<std::byte>& out, const HeaderExtensions& extensions,
                       bool with_feature_names);

}  // namespace imgconv::qcow2
