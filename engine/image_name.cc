#include "engine/image_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "engine/json_string.h"
#include "formats/options.h"
#include "formats/registry.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

constexpr std::string_view kJsonPrefix = "json:";
/// The original's, where no size is given.
constexpr uint64_t kNullFileBytes = kGiB;
/// Offsets of a file are signed.
constexpr uint64_t kMaxNullFileBytes =
    std::numeric_limits<int64_t>::max() / kSectorSize * kSectorSize;

/// More than anybody has use for: a hostile backing name must not make a tower of them.
constexpr unsigned kMaxRawNodes = 8;

bool is_file_protocol(std::string_view name) { return name == "file" || name == "host_device"; }

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

Error missing_file_name() { return Error(EINVAL, "The 'file' block driver requires a file name"); }

/// What every node has, for a file or for what lies on top of it.
Result<void> take_file_facts(FileSpec& file, NameOptions& options) {
  ASSIGN_OR_RETURN(const NodeFacts facts, take_node_facts(options));
  if (!file.cache.direct) file.cache.direct = facts.cache.direct;
  if (!file.cache.no_flush) file.cache.no_flush = facts.cache.no_flush;
  file.is_read_only = file.is_read_only || facts.is_read_only;
  file.is_writable = file.is_writable || facts.is_writable;
  file.force_share = file.force_share || facts.force_share;
  return ok();
}

FileSpec null_file_of(const std::string& driver) {
  FileSpec file;
  file.path = driver + "://";
  file.null_file_bytes = kNullFileBytes;
  return file;
}

Result<FileSpec> take_null_file(const std::string& driver, NameOptions options) {
  FileSpec file = null_file_of(driver);
  std::string json;
  ASSIGN_OR_RETURN(const std::optional<uint64_t> size, take_size(options, "size", json));
  file.null_file_bytes = size.value_or(kNullFileBytes);
  if (*file.null_file_bytes > kMaxNullFileBytes) return Error(EINVAL, "Image is too big");
  RETURN_IF_ERROR(take_null_tuning(options));
  RETURN_IF_ERROR(take_file_facts(file, options));
  if (options.empty()) return file;
  return Error(EINVAL, fmt::format("Block protocol '{}' doesn't support the option '{}'", driver,
                                   options.begin()->first));
}

Result<FileSpec> take_file(NameOptions options) {
  const std::optional<std::string> driver = take_text(options, "driver");
  if (driver && is_null_driver(*driver)) return take_null_file(*driver, std::move(options));
  const std::optional<std::string> filename = take_text(options, "filename");
  if (driver && find_driver(*driver) != nullptr) return missing_file_node();
  if (driver && !is_file_protocol(*driver)) {
    return Error(EINVAL, fmt::format("Unknown driver '{}'", *driver));
  }
  if (!driver && !filename) return Error(EINVAL, "Must specify either driver or file");
  if (!filename || filename->empty()) return missing_file_name();
  FileSpec file;
  // As it is: what looks like a protocol is none here.
  file.path = *filename;
  const std::optional<std::string> locking = take_text(options, "locking");
  if (locking && *locking != "on" && *locking != "off" && *locking != "auto") {
    return Error(EINVAL, fmt::format("invalid parameter value: {}", *locking));
  }
  file.is_unlocked = locking == "off";
  const std::optional<std::string> aio = take_text(options, "aio");
  if (aio && *aio != "threads" && *aio != "native" && *aio != "io_uring") {
    return Error(EINVAL, fmt::format("invalid parameter value: {}", *aio));
  }
  file.is_native_aio = aio == "native";
  RETURN_IF_ERROR(take_file_facts(file, options));
  RETURN_IF_ERROR(take_file_tuning(options));
  if (options.empty()) return file;
  return Error(EINVAL, fmt::format("Block protocol 'file' doesn't support the option '{}'",
                                   options.begin()->first));
}

Result<ImageSpec> spec_of_options(NameOptions options, bool is_backing, NameWarnings& warnings);

NameOptions with_driver(NameOptions options, const std::string& driver) {
  options["driver"] = {driver, false};
  return options;
}

Result<void> take_backing(ImageSpec& spec, NameOptions& options, NameWarnings& warnings) {
  NameOptions group = take_group(options, "backing");
  const auto found = options.find("backing");
  if (found != options.end()) {
    const std::optional<std::string> reference = std::move(found->second.text);
    options.erase(found);
    if (reference && !reference->empty()) {
      spec.backing_reference = *reference;
      return ok();
    }
    if (reference) {
      warnings.push_back("Use of \"backing\": \"\" is deprecated; use \"backing\": null instead");
    }
    spec.backing_source = ImageSpec::Backing::kNone;
    return ok();
  }
  if (group.empty()) return ok();
  Result<ImageSpec> backing = spec_of_options(std::move(group), true, warnings);
  if (!backing) return std::move(backing).error().within("Could not open backing file");
  spec.backing_source = ImageSpec::Backing::kOverride;
  spec.backing = std::make_unique<ImageSpec>(std::move(*backing));
  return ok();
}

/// What lies below another node is discarded, unless it says otherwise.
void let_discard(NameOptions& node) { node.try_emplace("discard", NameValue{"unmap", false}); }

/// A file, or a raw image of one.
Result<FileSpec> take_file_node(NameOptions options, unsigned depth = 0) {
  const auto driver = options.find("driver");
  if (driver == options.end() || driver->second.text != "raw") return take_file(std::move(options));
  if (depth == kMaxRawNodes) return Error(EINVAL, "Too many drivers 'raw' on top of each other");
  NameOptions group = take_group(options, "file");
  options.erase("driver");
  if (group.empty()) return missing_file_node();
  RawNode node;
  RETURN_IF_ERROR(take_part(node, options));
  let_discard(group);
  ASSIGN_OR_RETURN(FileSpec file, take_file_node(std::move(group), depth + 1));
  RETURN_IF_ERROR(take_file_facts(file, options));
  if (!options.empty()) {
    return Error(EINVAL, fmt::format("Block format 'raw' does not support the option '{}'",
                                     options.begin()->first));
  }
  file.raw_nodes.push_back(std::move(node));
  return file;
}

Result<void> take_files(ImageSpec& spec, NameOptions& options, bool is_backing) {
  for (const std::string_view role : {"file", "data-file"}) {
    const std::optional<std::string> reference = take_text(options, role);
    if (!reference) continue;
    if (take_group(options, role).empty()) return unknown_node(*reference);
    return Error(EINVAL,
                 "Cannot reference an existing block device with additional options or a new "
                 "filename");
  }
  NameOptions data_file = take_group(options, "data-file");
  if (!data_file.empty()) {
    let_discard(data_file);
    ASSIGN_OR_RETURN(spec.data_file, take_file_node(std::move(data_file)));
  }
  NameOptions file = take_group(options, "file");
  if (!file.empty()) {
    let_discard(file);
    ASSIGN_OR_RETURN(spec.file, take_file_node(std::move(file)));
    return ok();
  }
  if (is_backing) return ok();
  if (spec.format.empty()) return Error(EINVAL, "Must specify either driver or file");
  if (!is_file_protocol(spec.format) && find_driver(spec.format) == nullptr) {
    return Error(EINVAL, fmt::format("Unknown driver '{}'", spec.format));
  }
  return missing_file_node();
}

Result<ImageSpec> spec_of_options(NameOptions options, bool is_backing, NameWarnings& warnings) {
  ImageSpec spec;
  spec.format = take_text(options, "driver").value_or("");
  RETURN_IF_ERROR(take_backing(spec, options, warnings));
  if (is_file_protocol(spec.format) || is_null_driver(spec.format)) {
    ASSIGN_OR_RETURN(spec.file, take_file(with_driver(std::move(options), spec.format)));
    spec.is_read_only = spec.file->is_read_only;
    spec.is_writable = spec.file->is_writable;
    spec.force_share = spec.file->force_share;
    return spec;
  }
  RETURN_IF_ERROR(take_files(spec, options, is_backing));
  ASSIGN_OR_RETURN(const NodeFacts facts, take_node_facts(options));
  spec.cache = facts.cache;
  spec.force_share = facts.force_share;
  spec.is_read_only = facts.is_read_only || (spec.file && spec.file->is_read_only);
  spec.is_writable = facts.is_writable;
  spec.format_options = std::move(options);
  return spec;
}

}  // namespace

// Images and files refer to each other by name only: there are no nodes to refer to.
Error unknown_node(std::string_view reference) {
  return Error(EINVAL, fmt::format("Cannot find device='{0}' nor node-name='{0}'", reference));
}

Error missing_file_node() { return Error(EINVAL, "A block device must be specified for \"file\""); }

bool is_null_driver(std::string_view name) { return name == "null-co" || name == "null-aio"; }

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

Result<ImageSpec> parse_image_name(const std::string& name, const std::string& format,
                                   NameWarnings& warnings) {
  if (name.starts_with(kJsonPrefix)) {
    ASSIGN_OR_RETURN(NameOptions options,
                     parse_json_options(std::string_view(name).substr(kJsonPrefix.size())));
    if (!format.empty()) options = with_driver(std::move(options), format);
    return spec_of_options(std::move(options), false, warnings);
  }
  ImageSpec spec;
  FileSpec file;
  const std::string protocol = has_protocol(name) ? name.substr(0, name.find(':')) : format;
  if (is_null_driver(protocol)) {
    file = null_file_of(protocol);
    if (name != file.path) {
      return Error(EINVAL,
                   fmt::format("The only allowed filename for this driver is '{}'", file.path));
    }
  } else {
    ASSIGN_OR_RETURN(file.path, path_of_name(name));
  }
  spec.file = std::move(file);
  spec.format = format;
  return spec;
}

Result<ImageSpec> parse_image_spec_options(std::string_view text, NameWarnings& warnings) {
  return spec_of_options(parse_image_opts(text, warnings), false, warnings);
}

Result<void> apply_format_options(ImageSpec& spec, std::string_view format) {
  NameOptions& options = spec.format_options;
  if (format == "raw" && (options.contains("offset") || options.contains("size"))) {
    RETURN_IF_ERROR(take_part(spec.raw, options));
  }
  RETURN_IF_ERROR(take_format_tuning(options, format));
  if (options.empty()) return ok();
  return Error(EINVAL, fmt::format("Block format '{}' does not support the option '{}'", format,
                                   options.begin()->first));
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
