// BlockDriver: a disk-image format. One constant object each, found through formats/registry.h.
// A driver opens nothing by name: it receives Files, and asks the ImageOpener for an external data
// file. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/image.h"
#include "formats/image_limits.h"
#include "formats/options.h"
#include "loop/executor.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

struct OpenImageOptions {
  bool writable = false;
  /// For `check`: damaged images open as far as they can.
  bool for_check = false;
  /// Tables and data that the file is too short for are errors, not zeros: for who copies an image
  /// and must not lose what was cut off.
  bool refuse_truncated = false;
  /// The size of an image that was created with CreateImageOptions::is_incomplete: for who fills
  /// it, or reads what it has so far.
  std::optional<uint64_t> incomplete_size;
  /// For `info`: external data file, encryption and backing files are not needed.
  bool metadata_only = false;
  /// The image comes from a stranger: it names no other file and keeps these limits.
  std::optional<ImageLimits> limits;
  /// Opens an external data file by the name the image states, which is empty when it states none;
  /// the engine's policy decides. Null refuses.
  std::function<Result<std::unique_ptr<File>>(const std::string& name, bool writable)>
      open_data_file;
  /// What an image has to say beside its errors: a warning without prefix, a line on damage as it
  /// is. On the loop thread, also while the image is in use. Null: nobody listens.
  std::function<void(const std::string& text)> warn;
  std::function<void(const std::string& line)> remark;
  /// Where a batch of small metadata reads or writes runs as one job; must outlive the image. Null:
  /// one request each.
  Executor* executor = nullptr;
  /// raw only: the window of the file that is the image (json: and --image-opts).
  uint64_t raw_offset = 0;
  std::optional<uint64_t> raw_size;
};

/// What `create` was asked for, after parsing: the driver's own options are in `options`.
struct CreateImageOptions {
  uint64_t virtual_size = 0;  ///< Bytes; the driver rounds up to 512.
  OptionValues options;
  /// A header that can says that the image is not complete, until Image::mark_complete(): the disk
  /// has no size, and is corrupt if the format knows that.
  bool is_incomplete = false;
  /// Opens or creates the external data file named by the data_file option.
  std::function<Result<std::unique_ptr<File>>(const std::string& name)> create_data_file;
};

/// Bytes a target needs (CLI.md section 6).
struct MeasureReport {
  uint64_t required = 0;
  uint64_t fully_allocated = 0;
  std::optional<uint64_t> bitmaps;
};

/// One status run of the source, as measure needs it. Ascending, adjacent.
struct MeasureRange {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  bool is_data = false;
};

class BlockDriver {
 public:
  virtual ~BlockDriver() = default;
  virtual std::string_view name() const = 0;
  /// Does this head (first 512 bytes, zero padded) look like the format? raw never says yes: it is
  /// what remains.
  virtual bool probe(std::span<const std::byte> head) const = 0;
  virtual Task<Result<std::unique_ptr<Image>>> open(std::unique_ptr<File> file,
                                                    OpenImageOptions options) const = 0;
  /// Options of -o, in the order of QEMU's "Formatting" line.
  virtual const OptionList& create_options() const = 0;
  /// Options that Image::amend() takes; null when the format's images cannot be amended.
  virtual const OptionList* amend_options() const { return nullptr; }
  /// Every check of the options that needs no file, so that a bad value harms nothing.
  virtual Result<void> validate_create(const CreateImageOptions& options) const = 0;
  /// Writes an empty image into `file`, which is empty or a block device.
  virtual Task<Result<void>> create(File& file, CreateImageOptions options) const = 0;
  virtual bool supports_backing() const = 0;
  virtual bool supports_compression() const = 0;
  /// Could an image created with these options hold persistent bitmaps?
  virtual bool supports_bitmaps(const OptionValues&) const { return false; }
  /// `ranges` is empty when only the size is known (--size).
  virtual Result<MeasureReport> measure(const CreateImageOptions& options,
                                        const std::vector<MeasureRange>& ranges) const = 0;
};

}  // namespace imgconv
