// Options that several commands share: their table rows, and parsers of their values with
// qemu-img's messages. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cmd/object_option.h"
#include "cmd/option_parser.h"
#include "cmd/report.h"
#include "engine/open_image.h"
#include "loop/result.h"

namespace imgconv {

/// Keys of long options that several tables use; a command's own keys begin at kFirstCommandKey.
enum CommonKey : int {
  kImageOptsKey = kFirstLongOnlyKey,
  kObjectKey,
  kOutputKey,
  kUntrustedKey,
  kLimitKey,
  kFirstCommandKey,
};

inline constexpr OptionDef kImageOptsOption = {
    kImageOptsKey,
    {"image-opts"},
    nullptr,
    "image names are option strings, such as driver=qcow2,file.filename=PATH; excludes -f",
    1};
inline constexpr OptionDef kObjectOption = {
    kObjectKey, {"object"}, "OBJDEF", "a secret for encrypted images; accepted and not used", 1};
inline constexpr OptionDef kOutputOption = {
    kOutputKey, {"output"}, "human|json", "how to print the result (default: human)", 1};
inline constexpr OptionDef kForceShareOption = {
    'U', {"force-share"}, nullptr, "open images even if another process is writing to them", 1};

inline constexpr OptionDef kUntrustedOption = {
    kUntrustedKey,
    {"untrusted"},
    nullptr,
    "the image comes from a stranger: it may name no other file and must keep to limits; needs -f",
    0,
    true};
inline constexpr OptionDef kLimitOption = {
    kLimitKey,
    {"limit"},
    "NAME=N[,...]",
    "another limit for --untrusted: virtual-size, l1, refcount-table, snapshots, bitmaps, "
    "extensions, extents, expansion",
    0,
    true};

enum class OutputFormat { kHuman, kJson };

/// "--output must be used with human or json as argument."
Result<OutputFormat> parse_output_format(const std::string& text);

/// `what` is "cache" or "source cache": "Invalid source cache option: foo".
Result<CacheMode> parse_cache_mode(std::string_view what, const std::string& text);

/// An option string names its own format.
Result<void> check_image_opts(bool image_opts, const std::string& format);

/// Joins a further -o to the ones before. "Invalid option list: ,".
Result<void> append_creation_options(std::string& joined, const std::string& text);

/// Options on an image that comes from a stranger.
struct UntrustedOptions {
  bool is_untrusted = false;
  bool has_limits = false;
  ImageLimits limits;

  /// Takes --untrusted or --limit. False: it is neither.
  Result<bool> accept(int key, const std::string& value);
  /// "--limit requires --untrusted".
  Result<std::optional<ImageLimits>> request() const;
};

/// The options by which `info`, `map`, `check`, `measure` and `compare` open an image.
struct OpenOptions {
  std::string format;
  bool image_opts = false;
  bool force_share = false;
  CacheMode cache = CacheMode::kWriteback;
  UntrustedOptions untrusted;
  SecretObjects objects;

  /// Takes one of -f, -U, --image-opts, --object, --untrusted, --limit. False: it is none of them.
  Result<bool> accept(int key, const std::string& value);
  /// "--image-opts and --format are mutually exclusive".
  Result<ImageRequest> request(std::string name) const;
};

/// Exactly one operand, or "Expecting one image file name" with the hint.
Result<std::string> single_image_name(const Report& report, const Arguments& arguments);

}  // namespace imgconv
