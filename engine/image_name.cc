#include "engine/image_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "engine/json_string.h"
#include "formats/options.h"
#include "formats/registry.h"
#include "loop/try.h"

namespace imgconv {
namespace {

constexpr std::string_view kJsonPrefix = "json:";

/// Options of every block node that change naming or permissions but not the bytes.
constexpr std::array<std::string_view, 4> kNeutralOptions = {
    "node-name",
    "read-only",
    "auto-read-only",
    "force-share",
};
/// More than anybody has use for: a hostile backing name must not make a tower of them.
constexpr unsigned kMaxRawNodes = 8;
/// Tuning of the original's qcow2 driver, without a meaning here.
constexpr std::array<std::string_view, 12> kQcow2Tuning = {
    "lazy-refcounts",       "l2-cache-size",        "l2-cache-entry-size",
    "refcount-cache-size",  "cache-size",           "overlap-check",
    "cache-clean-interval", "pass-discard-request", "pass-discard-snapshot",
    "discard-no-unref",     "pass-discard-other",   "overlap-check.template",
};
constexpr std::array<std::string_view, 4> kFileTuning = {
    "aio-max-batch",
    "drop-cache",
    "x-check-cache-dropped",
    "pr-manager",
};

template <size_t kCount>
bool contains(const std::array<std::string_view, kCount>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_file_protocol(std::string_view name) { return name == "file" || name == "host_device"; }

std::optional<std::string> take(NameOptions& options, std::string_view key) {
  const auto found = options.find(key);
  if (found == options.end()) return std::nullopt;
  std::string value = found->second.text.value_or("");
  options.erase(found);
  return value;
}

/// Removes the options under "PREFIX." and returns them without it.
NameOptions take_group(NameOptions& options, std::string_view prefix) {
  const std::string dotted = std::string(prefix) + ".";
  NameOptions group;
  auto next = options.lower_bound(dotted);
  while (next != options.end() && next->first.starts_with(dotted)) {
    group[next->first.substr(dotted.size())] = std::move(next->second);
    next = options.erase(next);
  }
  return group;
}

/// Null is as good as not given.
Result<std::optional<bool>> take_optional_switch(NameOptions& options, std::string_view key) {
  const auto found = options.find(key);
  if (found == options.end()) return std::nullopt;
  const std::optional<std::string> value = std::move(found->second.text);
  options.erase(found);
  if (!value) return std::nullopt;
  if (*value == "off" || *value == "no" || *value == "false" || *value == "n") return false;
  if (*value == "on" || *value == "yes" || *value == "true" || *value == "y") return true;
  return Error(EINVAL, fmt::format("Parameter '{}' expects 'on' or 'off'", key));
}

Result<bool> take_switch(NameOptions& options, std::string_view key) {
  ASSIGN_OR_RETURN(const std::optional<bool> value, take_optional_switch(options, key));
  return value.value_or(false);
}

Result<CacheOverride> take_cache(NameOptions& options) {
  CacheOverride cache;
  ASSIGN_OR_RETURN(cache.direct, take_optional_switch(options, "cache.direct"));
  ASSIGN_OR_RETURN(cache.no_flush, take_optional_switch(options, "cache.no-flush"));
  return cache;
}

/// How a guest's discards and zeros are stored: no guest runs here, so only the spelling counts.
Result<void> take_guest_options(NameOptions& options) {
  constexpr std::array<std::string_view, 4> kDiscards = {"ignore", "off", "unmap", "on"};
  constexpr std::array<std::string_view, 3> kDetections = {"off", "on", "unmap"};
  const std::optional<std::string> discard = take(options, "discard");
  if (discard && !contains(kDiscards, *discard)) return Error(EINVAL, "Invalid discard option");
  const std::optional<std::string> detection = take(options, "detect-zeroes");
  if (detection && !contains(kDetections, *detection)) {
    return Error(EINVAL, fmt::format("invalid parameter value: {}", *detection));
  }
  return ok();
}

/// `json` becomes the value as JSON. Null is as good as not given.
Result<std::optional<uint64_t>> take_size(NameOptions& options, std::string_view key,
                                          std::string& json) {
  const auto found = options.find(key);
  if (found == options.end()) return std::nullopt;
  const NameValue value = std::move(found->second);
  options.erase(found);
  if (!value.text) {
    json = "null";
    return std::nullopt;
  }
  json = value.is_number ? *value.text : json_string(*value.text);
  ASSIGN_OR_RETURN(const uint64_t size, parse_option_size(key, *value.text));
  return size;
}

Result<void> take_part(RawNode& node, NameOptions& options) {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> offset,
                   take_size(options, "offset", node.offset_json));
  node.offset = offset.value_or(0);
  ASSIGN_OR_RETURN(node.size, take_size(options, "size", node.size_json));
  return ok();
}

std::string member(std::string_view key, const std::string& json) {
  return json.empty() ? std::string() : fmt::format("\"{}\": {}, ", key, json);
}

std::string raw_node_json(const RawNode& node, std::string_view file) {
  return fmt::format("{{{}\"driver\": \"raw\", {}\"file\": {}}}",
                     member("offset", node.offset_json), member("size", node.size_json), file);
}

/// The file and the lowest `count` of its raw nodes.
std::string file_json(const FileSpec& file, size_t count) {
  std::string json =
      fmt::format("{{\"driver\": \"file\", \"filename\": {}}}", json_string(file.path));
  for (size_t i = 0; i < count; ++i) json = raw_node_json(file.raw_nodes[i], json);
  return json;
}

bool is_all_of_it(const RawNode& node) {
  return node.offset_json.empty() && node.size_json.empty();
}

/// Images and files refer to each other by name only: there are no nodes to refer to.
Error unknown_node(std::string_view reference) {
  return Error(EINVAL, fmt::format("Cannot find device='{0}' nor node-name='{0}'", reference));
}

Error missing_file_name() { return Error(EINVAL, "The 'file' block driver requires a file name"); }

Result<FileSpec> take_file(NameOptions options) {
  const std::optional<std::string> driver = take(options, "driver");
  if (driver && !is_file_protocol(*driver)) {
    return Error(EINVAL, fmt::format("Unknown driver '{}'", *driver));
  }
  const std::optional<std::string> filename = take(options, "filename");
  if (!filename || filename->empty()) return missing_file_name();
  FileSpec file;
  // As it is: what looks like a protocol is none here.
  file.path = *filename;
  const std::optional<std::string> locking = take(options, "locking");
  if (locking && *locking != "on" && *locking != "off" && *locking != "auto") {
    return Error(EINVAL, fmt::format("Parameter 'locking' does not accept value '{}'", *locking));
  }
  file.is_unlocked = locking == "off";
  ASSIGN_OR_RETURN(file.is_read_only, take_switch(options, "read-only"));
  const std::optional<std::string> aio = take(options, "aio");
  if (aio && *aio != "threads" && *aio != "native" && *aio != "io_uring") {
    return Error(EINVAL, fmt::format("invalid parameter value: {}", *aio));
  }
  file.is_native_aio = aio == "native";
  ASSIGN_OR_RETURN(file.cache, take_cache(options));
  RETURN_IF_ERROR(take_guest_options(options));
  for (const auto& [name, value] : options) {
    if (contains(kNeutralOptions, name) || contains(kFileTuning, name)) continue;
    return Error(EINVAL,
                 fmt::format("Block protocol 'file' doesn't support the option '{}'", name));
  }
  return file;
}

Result<ImageSpec> spec_of_options(NameOptions options, bool is_backing);

Result<void> take_backing(ImageSpec& spec, NameOptions& options) {
  NameOptions group = take_group(options, "backing");
  const auto found = options.find("backing");
  if (found != options.end()) {
    const std::optional<std::string> reference = std::move(found->second.text);
    options.erase(found);
    if (reference && !reference->empty()) {
      return unknown_node(*reference).within("Could not open backing file");
    }
    if (reference) {
      spec.warnings.push_back(
          "Use of \"backing\": \"\" is deprecated; use \"backing\": null instead");
    }
    spec.backing_source = ImageSpec::Backing::kNone;
    return ok();
  }
  if (group.empty()) return ok();
  Result<ImageSpec> backing = spec_of_options(std::move(group), true);
  if (!backing) return std::move(backing).error().within("Could not open backing file");
  spec.backing_source = ImageSpec::Backing::kOverride;
  spec.backing = std::make_unique<ImageSpec>(std::move(*backing));
  return ok();
}

/// A file, or a raw image of one.
Result<FileSpec> take_file_node(NameOptions options, unsigned depth = 0) {
  const auto driver = options.find("driver");
  if (driver == options.end() || driver->second.text != "raw") return take_file(std::move(options));
  if (depth == kMaxRawNodes) return Error(EINVAL, "Too many drivers 'raw' on top of each other");
  NameOptions group = take_group(options, "file");
  options.erase("driver");
  if (group.empty()) return Error(EINVAL, "A block device must be specified for \"file\"");
  RawNode node;
  RETURN_IF_ERROR(take_part(node, options));
  ASSIGN_OR_RETURN(const CacheOverride cache, take_cache(options));
  RETURN_IF_ERROR(take_guest_options(options));
  ASSIGN_OR_RETURN(const bool is_read_only, take_switch(options, "read-only"));
  for (const auto& [name, value] : options) {
    if (contains(kNeutralOptions, name)) continue;
    return Error(EINVAL, fmt::format("Block format 'raw' does not support the option '{}'", name));
  }
  ASSIGN_OR_RETURN(FileSpec file, take_file_node(std::move(group), depth + 1));
  if (!file.cache.direct) file.cache.direct = cache.direct;
  if (!file.cache.no_flush) file.cache.no_flush = cache.no_flush;
  if (is_read_only) file.is_read_only = true;
  file.raw_nodes.push_back(std::move(node));
  return file;
}

Result<void> take_files(ImageSpec& spec, NameOptions& options, bool is_backing) {
  for (const std::string_view role : {"file", "data-file"}) {
    const std::optional<std::string> reference = take(options, role);
    if (reference) return unknown_node(*reference);
  }
  NameOptions data_file = take_group(options, "data-file");
  if (!data_file.empty()) {
    ASSIGN_OR_RETURN(spec.data_file, take_file_node(std::move(data_file)));
  }
  NameOptions file = take_group(options, "file");
  if (!file.empty()) {
    ASSIGN_OR_RETURN(spec.file, take_file_node(std::move(file)));
    return ok();
  }
  if (is_backing) return ok();
  if (spec.format.empty()) return Error(EINVAL, "Must specify either driver or file");
  if (!is_file_protocol(spec.format) && find_driver(spec.format) == nullptr) {
    return Error(EINVAL, fmt::format("Unknown driver '{}'", spec.format));
  }
  return Error(EINVAL, "A block device must be specified for \"file\"");
}

Result<ImageSpec> spec_of_options(NameOptions options, bool is_backing) {
  ImageSpec spec;
  spec.format = take(options, "driver").value_or("");
  ASSIGN_OR_RETURN(spec.force_share, take_switch(options, "force-share"));
  ASSIGN_OR_RETURN(spec.is_read_only, take_switch(options, "read-only"));
  if (is_file_protocol(spec.format)) {
    ASSIGN_OR_RETURN(spec.file, take_file(std::move(options)));
    return spec;
  }
  ASSIGN_OR_RETURN(spec.cache, take_cache(options));
  RETURN_IF_ERROR(take_guest_options(options));
  RETURN_IF_ERROR(take_files(spec, options, is_backing));
  if (spec.file && spec.file->is_read_only) spec.is_read_only = true;
  RETURN_IF_ERROR(take_backing(spec, options));
  spec.format_options = std::move(options);
  return spec;
}

}  // namespace

CacheMode CacheOverride::applied_to(CacheMode mode) const {
  if (!direct && !no_flush) return mode;
  const bool is_sync = mode == CacheMode::kWritethrough || mode == CacheMode::kDirectsync;
  const bool was_direct = mode == CacheMode::kNone || mode == CacheMode::kDirectsync;
  if (direct.value_or(was_direct)) return is_sync ? CacheMode::kDirectsync : CacheMode::kNone;
  if (no_flush.value_or(mode == CacheMode::kUnsafe)) return CacheMode::kUnsafe;
  return is_sync ? CacheMode::kWritethrough : CacheMode::kWriteback;
}

bool has_protocol(std::string_view name) {
  const size_t found = name.find_first_of(":/");
  return found != std::string_view::npos && name[found] == ':';
}

Result<std::string> path_of_name(const std::string& name) {
  std::string path = name;
  if (has_protocol(name)) {
    const size_t colon = name.find(':');
    const std::string protocol = name.substr(0, colon);
    if (!is_file_protocol(protocol)) {
      return Error(EINVAL, fmt::format("Unknown protocol '{}'", protocol));
    }
    path = name.substr(colon + 1);
    if (has_protocol(path)) path.insert(0, "./");
  }
  if (path.empty()) return missing_file_name();
  return path;
}

Result<std::string> path_to_create(const std::string& name) {
  if (name.empty() || name == "file:") return Error::from_errno(ENOENT, "Could not create ''");
  return path_of_name(name);
}

Result<ImageSpec> parse_image_name(const std::string& name) {
  if (name.starts_with(kJsonPrefix)) {
    ASSIGN_OR_RETURN(NameOptions options,
                     parse_json_options(std::string_view(name).substr(kJsonPrefix.size())));
    return spec_of_options(std::move(options), false);
  }
  ImageSpec spec;
  FileSpec file;
  ASSIGN_OR_RETURN(file.path, path_of_name(name));
  spec.file = std::move(file);
  return spec;
}

Result<ImageSpec> parse_image_spec_options(std::string_view text) {
  return spec_of_options(parse_image_opts(text), false);
}

Result<void> apply_format_options(ImageSpec& spec, std::string_view format) {
  NameOptions& options = spec.format_options;
  if (format == "raw" && (options.contains("offset") || options.contains("size"))) {
    RETURN_IF_ERROR(take_part(spec.raw, options));
  }
  for (const auto& [name, value] : options) {
    if (contains(kNeutralOptions, name)) continue;
    if (format == "qcow2" && contains(kQcow2Tuning, name)) continue;
    return Error(EINVAL,
                 fmt::format("Block format '{}' does not support the option '{}'", format, name));
  }
  return ok();
}

std::string display_name(const ImageSpec& spec) {
  const FileSpec& file = *spec.file;
  const size_t count = file.raw_nodes.size();
  if (count == 0 && is_all_of_it(spec.raw)) return file.path;
  const std::string below = file_json(file, count);
  if (spec.format == "raw") return "json:" + raw_node_json(spec.raw, below);
  return fmt::format("json:{{\"driver\": {}, \"file\": {}}}", json_string(spec.format), below);
}

std::string display_name(const FileSpec& file, size_t count) {
  // One that is all of the file goes by the file's own name.
  if (count == 1 && is_all_of_it(file.raw_nodes.front())) return file.path;
  return "json:" + file_json(file, count);
}

}  // namespace imgconv
