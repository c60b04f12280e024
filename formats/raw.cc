#include "formats/raw.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "formats/raw_image.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

// Creation options (CLI.md section 4).
constexpr std::string_view kPreallocation = "preallocation";

/// File offsets are signed in the kernel.
constexpr uint64_t kMaxFileLength = std::numeric_limits<int64_t>::max();

std::string preallocation_of(const CreateImageOptions& options) {
  return options.options.string(kPreallocation).value_or("off");
}

Task<Result<void>> preallocate(File& file, uint64_t length, std::string mode) {
  if (mode == "falloc") {
    CO_RETURN_IF_ERROR(co_await file.allocate(0, length));
  } else if (mode == "full") {
    CO_RETURN_IF_ERROR(co_await write_zeros_out(file, 0, length));
    co_return ok();
  }
  CO_RETURN_IF_ERROR(co_await write_first_block(file, length));
  co_return ok();
}

Error creation_error(Error cause) {
  if (cause.code() == EFBIG) {
    return Error(EFBIG, "The image size is too large for file format 'raw'");
  }
  return cause;
}

class RawDriver final : public BlockDriver {
 public:
  std::string_view name() const override { return "raw"; }
  bool probe(std::span<const std::byte>) const override { return false; }
  bool supports_backing() const override { return false; }
  bool supports_compression() const override { return false; }

  Task<Result<std::unique_ptr<Image>>> open(std::unique_ptr<File> file,
                                            OpenImageOptions options) const override {
    CO_ASSIGN_OR_RETURN(const FileStat stat, file->stat());
    CO_ASSIGN_OR_RETURN(const RawWindow window,
                        find_window(stat, options.raw_offset, options.raw_size));
    const bool extends_with_zeros = stat.extends_with_zeros && !stat.is_block_device;
    std::unique_ptr<Image> image =
        std::make_unique<RawImage>(std::move(file), window, extends_with_zeros);
    co_return image;
  }

  const OptionList& create_options() const override {
    static const OptionList kOptions = {
        {"size", OptionType::kSize, "Virtual disk size", {}},
        {"nocow", OptionType::kBool, "Turn off copy-on-write (valid only on btrfs)", {}},
        {"preallocation",
         OptionType::kString,
         "Preallocation mode (allowed values: off, falloc, full)",
         {}},
        {"extent_size_hint",
         OptionType::kSize,
         "Extent size hint for the image file, 0 to disable",
         {}},
    };
    return kOptions;
  }

  Result<void> validate_create(const CreateImageOptions& options) const override {
    if (options.virtual_size > round_down(kMaxFileLength, kSectorSize)) {
      return Error::from_errno(EINVAL, "Could not resize file");
    }
    const std::string mode = preallocation_of(options);
    if (mode == "off" || mode == "falloc" || mode == "full") return ok();
    if (mode == "metadata") {
      return Error(ENOTSUP, "Unsupported preallocation mode: metadata");
    }
    return Error(EINVAL, "invalid parameter value: " + mode);
  }

  Task<Result<void>> create(File& file, CreateImageOptions options) const override {
    CO_RETURN_IF_ERROR(validate_create(options));
    const uint64_t length = round_up(options.virtual_size, kSectorSize);
    const std::string mode = preallocation_of(options);
    CO_ASSIGN_OR_RETURN(const FileStat stat, file.stat());
    if (stat.is_block_device) {
      CO_RETURN_IF_ERROR(check_device(stat, length, mode));
      // What the device was before must not be found by a probe.
      CO_RETURN_IF_ERROR(
          co_await file.write_zeroes(0, std::min(stat.length, kSectorSize), ZeroFlags()));
      co_return ok();
    }

    const Result<void> resized = co_await file.truncate(length);
    if (!resized) {
      co_return creation_error(Error(resized.error()).within("Could not resize file"));
    }
    if (length == 0) co_return ok();
    const Result<void> filled = co_await preallocate(file, length, mode);
    if (!filled) co_return creation_error(filled.error());
    co_return ok();
  }

  Result<MeasureReport> measure(const CreateImageOptions& options,
                                const std::vector<MeasureRange>&) const override {
    // Sizes and options that no file could have are measured as well, as qemu-img does.
    MeasureReport report;
    report.required = round_up(options.virtual_size, kSectorSize);
    report.fully_allocated = report.required;
    return report;
  }

 private:
  static Result<void> check_device(const FileStat& stat, uint64_t length, const std::string& mode) {
    if (mode != "off") return Error(ENOTSUP, "Unsupported preallocation mode '" + mode + "'");
    if (stat.length < length) return Error(EINVAL, "Cannot grow device files");
    return ok();
  }
};

}  // namespace

const BlockDriver& raw_driver() {
  static const RawDriver kDriver;
  return kDriver;
}

}  // namespace imgconv
