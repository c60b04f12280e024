#include "cmd/common_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "cmd/size_arg.h"
#include "formats/options.h"
#include "loop/try.h"

namespace imgconv {

Result<OutputFormat> parse_output_format(const std::string& text) {
  if (text == "human") return OutputFormat::kHuman;
  if (text == "json") return OutputFormat::kJson;
  return Error(EINVAL, "--output must be used with human or json as argument.");
}

Result<CacheMode> parse_cache_mode(std::string_view what, const std::string& text) {
  static constexpr std::array<std::pair<std::string_view, CacheMode>, 6> kModes = {{
      {"none", CacheMode::kNone},
      {"off", CacheMode::kNone},
      {"directsync", CacheMode::kDirectsync},
      {"writethrough", CacheMode::kWritethrough},
      {"writeback", CacheMode::kWriteback},
      {"unsafe", CacheMode::kUnsafe},
  }};
  for (const auto& [name, mode] : kModes) {
    if (name == text) return mode;
  }
  return Error(EINVAL, fmt::format("Invalid {} option: {}", what, text));
}

Result<void> check_image_opts(bool image_opts, const std::string& format) {
  if (!image_opts || format.empty()) return ok();
  return Error(EINVAL, "--image-opts and --format are mutually exclusive");
}

Result<void> append_creation_options(std::string& joined, const std::string& text) {
  if (!is_valid_option_text(text)) {
    return Error(EINVAL, fmt::format("Invalid option list: {}", text));
  }
  if (!joined.empty()) joined += ',';
  joined += text;
  return ok();
}

namespace {

uint64_t* limit_of_name(ImageLimits& limits, std::string_view name) {
  const std::array<std::pair<std::string_view, uint64_t*>, 8> names = {{
      {"virtual-size", &limits.virtual_size},
      {"l1", &limits.l1_bytes},
      {"refcount-table", &limits.refcount_table_bytes},
      {"snapshots", &limits.snapshots},
      {"bitmaps", &limits.bitmaps},
      {"extensions", &limits.extension_bytes},
      {"extents", &limits.extents},
      {"expansion", &limits.expansion},
  }};
  for (const auto& [known, limit] : names) {
    if (known == name) return limit;
  }
  return nullptr;
}

Result<void> parse_limits(ImageLimits& limits, std::string_view text) {
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, text.find(','));
    text.remove_prefix(std::min(piece.size() + 1, text.size()));
    const size_t equals = std::min(piece.find('='), piece.size());
    uint64_t* const limit = limit_of_name(limits, piece.substr(0, equals));
    if (limit == nullptr || equals == piece.size()) {
      return Error(EINVAL, fmt::format("Invalid limit: {}", piece));
    }
    ASSIGN_OR_RETURN(*limit, parse_size_arg("limit", std::string(piece.substr(equals + 1))));
  }
  return ok();
}

}  // namespace

Result<bool> UntrustedOptions::accept(int key, const std::string& value) {
  if (key == kUntrustedKey) {
    is_untrusted = true;
    return true;
  }
  if (key != kLimitKey) return false;
  has_limits = true;
  RETURN_IF_ERROR(parse_limits(limits, value));
  return true;
}

Result<std::optional<ImageLimits>> UntrustedOptions::request() const {
  if (is_untrusted) return std::optional(limits);
  if (has_limits) return Error(EINVAL, "--limit requires --untrusted");
  return std::optional<ImageLimits>();
}

Result<bool> OpenOptions::accept(int key, const std::string& value) {
  switch (key) {
    case 'f':
      format = value;
      return true;
    case 'U':
      force_share = true;
      return true;
    case kImageOptsKey:
      image_opts = true;
      return true;
    case kObjectKey:
      RETURN_IF_ERROR(objects.add(value));
      return true;
    default:
      return untrusted.accept(key, value);
  }
}

Result<ImageRequest> OpenOptions::request(std::string name) const {
  RETURN_IF_ERROR(check_image_opts(image_opts, format));
  ImageRequest request;
  request.name = std::move(name);
  request.format = format;
  request.image_opts = image_opts;
  request.force_share = force_share;
  request.cache = cache;
  ASSIGN_OR_RETURN(request.untrusted, untrusted.request());
  return request;
}

Result<std::string> single_image_name(const Report& report, const Arguments& arguments) {
  if (arguments.operands.size() != 1) return report.usage_error("Expecting one image file name");
  return arguments.operands.front();
}

}  // namespace imgconv
