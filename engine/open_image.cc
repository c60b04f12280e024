#include "engine/open_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "engine/file_part.h"
#include "engine/image_name.h"
#include "engine/null_file.h"
#include "engine/probed_raw_file.h"
#include "engine/untrusted.h"
#include "formats/driver.h"
#include "formats/foreign_formats.h"
#include "formats/registry.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// How a layer is to be opened, apart from what it is.
struct OpenMode {
  bool writable = false;
  CacheMode cache = CacheMode::kWriteback;
  bool force_share = false;
  bool refuses_writers = false;
  bool may_resize = false;
  bool for_check = false;
  bool metadata_only = false;
  bool refuse_truncated = false;
  std::optional<uint64_t> incomplete_size;
  std::optional<ImageLimits> limits;
  /// The format is known, but only from a guess when the layer was opened before.
  bool was_guessed_raw = false;
};

Result<const BlockDriver*> driver_of_format(std::string_view format) {
  const bool is_protocol = format == "file" || format == "host_device" || is_null_driver(format);
  const BlockDriver* driver = find_driver(is_protocol ? "raw" : format);
  if (driver == nullptr) return Error(EINVAL, fmt::format("Unknown driver '{}'", format));
  return driver;
}

/// -U beside an option string that says otherwise.
Result<void> check_force_share(const ImageRequest& request) {
  if (!request.force_share || !request.image_opts) return ok();
  NameWarnings warnings;
  const NameOptions options = parse_image_opts(request.name, warnings);
  const auto given = options.find("force-share");
  if (given == options.end() || given->second.text == "on") return ok();
  return Error(EINVAL, "--force-share/-U conflicts with image options");
}

Result<ImageSpec> spec_of_request(const ImageRequest& request, NameWarnings& warnings) {
  if (request.untrusted) RETURN_IF_ERROR(check_untrusted_request(request));
  ASSIGN_OR_RETURN(ImageSpec spec, request.image_opts
                                       ? parse_image_spec_options(request.name, warnings)
                                       : parse_image_name(request.name, request.format, warnings));
  if (!spec.format.empty()) RETURN_IF_ERROR(driver_of_format(spec.format));
  const bool is_shared = request.force_share || spec.force_share;
  const FileSpec& file = *spec.file;
  if ((is_shared && (request.writable || spec.is_writable || file.is_writable)) ||
      (file.force_share && (request.writable || file.is_writable))) {
    return Error(EINVAL, "force-share=on can only be used with read-only images");
  }
  if (request.writable && spec.is_read_only) return Error(EACCES, "Block node is read-only");
  return spec;
}

/// The part of a file that the raw nodes on top of it show.
Result<std::unique_ptr<File>> apply_raw_nodes(std::unique_ptr<File> file, const FileSpec& spec,
                                              std::vector<NodeBelow>& nodes) {
  if (spec.raw_nodes.empty()) return file;
  ASSIGN_OR_RETURN(FileStat stat, file->stat());
  nodes.push_back({file->name(), stat.length, stat.is_block_device});
  for (const RawNode& node : spec.raw_nodes) {
    ASSIGN_OR_RETURN(const RawWindow window, find_window(stat, node.offset, node.size));
    if (window.host_offset > 0 || window.is_fixed) file = part_of_file(std::move(file), window);
    ASSIGN_OR_RETURN(stat, file->stat());
    nodes.push_back({display_name(spec, nodes.size()), window.length, false});
  }
  return file;
}

Result<std::unique_ptr<File>> open_file(Storage& storage, const FileSpec& spec,
                                        const OpenFileOptions& options) {
  if (spec.null_file_bytes) return make_null_file(spec.path, *spec.null_file_bytes);
  return storage.open(spec.path, options);
}

/// Which locks to take depends on the format, so probing takes none, as the original's does.
Task<Result<const BlockDriver*>> probe(Storage& storage, const FileSpec& spec,
                                       OpenFileOptions options) {
  options.lock = LockMode::kNone;
  CO_ASSIGN_OR_RETURN(std::unique_ptr<File> file, open_file(storage, spec, options));
  std::vector<NodeBelow> nodes;
  CO_ASSIGN_OR_RETURN(file, apply_raw_nodes(std::move(file), spec, nodes));
  std::array<std::byte, kSectorSize> head{};
  CO_RETURN_IF_ERROR(co_await file->read(0, head));
  const std::string_view foreign = probe_foreign_format(head);
  if (!foreign.empty()) {
    // Taken for raw, the container itself would be copied, and nobody would be told.
    co_return Error(ENOTSUP, fmt::format("Unknown driver '{}'", foreign))
        .with_hint(fmt::format("'{}' looks like an image of the format '{}', which is not "
                               "supported. The format 'raw' takes the file as it is.",
                               spec.path, foreign));
  }
  co_return &probe_driver(head);
}

/// CLI.md 1.7, and what the original's raw driver leaves to the guest's view of its file.
LockMode lock_mode(const ImageSpec& spec, const OpenMode& mode, const BlockDriver& driver) {
  if (spec.file->is_unlocked) return LockMode::kNone;
  const bool shares_all = mode.force_share || spec.force_share;
  if (driver.name() != "raw") {
    if (mode.writable) return LockMode::kWrite;
    if (mode.metadata_only) return shares_all ? LockMode::kNone : LockMode::kDescribe;
    return shares_all ? LockMode::kForceShare : LockMode::kRead;
  }
  if (mode.writable) return mode.may_resize ? LockMode::kResizeShared : LockMode::kWriteShared;
  if (mode.metadata_only) return LockMode::kNone;
  return mode.refuses_writers && !shares_all ? LockMode::kRead : LockMode::kForceShare;
}

LockMode data_file_lock_mode(const ImageSpec& spec, const OpenMode& mode, bool writable) {
  if (spec.data_file ? spec.data_file->is_unlocked : spec.file->is_unlocked) return LockMode::kNone;
  if (writable) return LockMode::kWriteData;
  if (mode.force_share || spec.force_share) return LockMode::kForceShare;
  return mode.refuses_writers ? LockMode::kRead : LockMode::kReadData;
}

/// Data files are looked for from the current directory, not from the image's (CLI.md 12.6).
OpenImageOptions driver_options(Storage& storage, const ImageSpec& spec, const OpenMode& mode,
                                Messages& messages) {
  OpenImageOptions options;
  options.warn = [&messages](const std::string& text) { messages.warning(text); };
  options.remark = [&messages](const std::string& line) { messages.raw_line(line); };
  options.writable = mode.writable;
  options.for_check = mode.for_check;
  options.metadata_only = mode.metadata_only;
  options.refuse_truncated = mode.refuse_truncated;
  options.incomplete_size = mode.incomplete_size;
  options.limits = mode.limits;
  options.executor = &storage.executor();
  options.raw_offset = spec.raw.offset;
  options.raw_size = spec.raw.size;
  const LockMode reading = data_file_lock_mode(spec, mode, false);
  const LockMode writing = data_file_lock_mode(spec, mode, true);
  const CacheMode node_cache = spec.cache.applied_to(mode.cache);
  const CacheMode cache =
      spec.data_file ? spec.data_file->cache.applied_to(node_cache) : node_cache;
  options.open_data_file = [&storage, override = spec.data_file, cache, reading, writing](
                               const std::string& name,
                               bool writable) -> Result<std::unique_ptr<File>> {
    std::string path;
    if (override) {
      path = override->path;
    } else {
      if (name.empty()) return Error(EINVAL, "'data-file' is required for this image");
      ASSIGN_OR_RETURN(path, path_of_name(name));
    }
    OpenFileOptions file_options;
    file_options.writable = writable;
    file_options.cache = cache;
    file_options.lock = writable ? writing : reading;
    if (!override) return storage.open(path, file_options);
    ASSIGN_OR_RETURN(std::unique_ptr<File> file, open_file(storage, *override, file_options));
    std::vector<NodeBelow> nodes;
    return apply_raw_nodes(std::move(file), *override, nodes);
  };
  return options;
}

Task<Result<Layer>> open_layer(Storage& storage, ImageSpec& spec, const OpenMode& mode,
                               Messages& messages) {
  const BlockDriver* driver = nullptr;
  if (!spec.format.empty()) {
    CO_ASSIGN_OR_RETURN(driver, driver_of_format(spec.format));
  }
  OpenFileOptions file_options;
  file_options.writable = mode.writable;
  file_options.cache = spec.file->cache.applied_to(spec.cache.applied_to(mode.cache));
  if (spec.file->is_native_aio && file_options.cache != CacheMode::kNone &&
      file_options.cache != CacheMode::kDirectsync) {
    co_return Error(EINVAL,
                    "aio=native was specified, but it requires cache.direct=on, which was not "
                    "specified.");
  }
  Layer layer;
  if (driver == nullptr) {
    CO_ASSIGN_OR_RETURN(driver, co_await probe(storage, *spec.file, file_options));
    layer.was_guessed_raw = driver->name() == "raw";
    spec.format = driver->name();
    if (layer.was_guessed_raw && mode.writable) warn_of_guess(display_name(spec), messages);
  }
  file_options.lock = lock_mode(spec, mode, *driver);
  CO_ASSIGN_OR_RETURN(std::unique_ptr<File> file, open_file(storage, *spec.file, file_options));
  CO_ASSIGN_OR_RETURN(file, apply_raw_nodes(std::move(file), *spec.file, layer.nodes_below));
  if ((layer.was_guessed_raw || mode.was_guessed_raw) && mode.writable) {
    file = guard_probed_raw(std::move(file));
  }
  CO_RETURN_IF_ERROR(apply_format_options(spec, driver->name()));
  if (spec.data_file && driver->name() == "raw") {
    co_return Error(EINVAL, "Block format 'raw' does not support the option 'data-file.filename'");
  }
  layer.name = display_name(spec);
  layer.format = spec.format;
  OpenImageOptions options = driver_options(storage, spec, mode, messages);
  CO_ASSIGN_OR_RETURN(layer.image, co_await driver->open(std::move(file), std::move(options)));
  if (spec.data_file && !mode.metadata_only && layer.image->files().size() < 2) {
    co_return Error(EINVAL, "'data-file' can only be set for images with an external data file");
  }
  co_return layer;
}

/// What lies below `overlay`, or nothing. The header's name counts unless the overlay's own options
/// name a file.
Result<std::optional<ImageSpec>> backing_spec(ImageSpec& overlay_spec, const Layer& overlay,
                                              NameWarnings& warnings) {
  if (overlay_spec.backing_source == ImageSpec::Backing::kNone) return std::nullopt;
  if (!overlay_spec.backing_reference.empty()) return unknown_node(overlay_spec.backing_reference);
  const ImageInfo& info = overlay.image->info();
  ImageSpec spec;
  if (overlay_spec.backing) spec = std::move(*overlay_spec.backing);
  if (!spec.file) {
    if (info.backing_file.empty() && overlay_spec.backing_source == ImageSpec::Backing::kOverride) {
      if (!spec.format.empty()) RETURN_IF_ERROR(driver_of_format(spec.format));
      return missing_file_node();
    }
    if (info.backing_file.empty()) return std::nullopt;
    ASSIGN_OR_RETURN(const std::string name, backing_name_of(overlay));
    ASSIGN_OR_RETURN(ImageSpec named, parse_image_name(name, {}, warnings));
    named.format_options.merge(spec.format_options);
    if (spec.format.empty() && !info.backing_format.empty()) {
      // What the header says of the format is stronger than what a json: name in it says.
      if (named.format == "file" && info.backing_format != "file") {
        return Error(EINVAL, "A block device must be specified for \"file\"");
      }
      spec.format = info.backing_format;
    }
    if (!spec.format.empty()) named.format = spec.format;
    if (spec.backing_source != ImageSpec::Backing::kFromHeader) {
      named.backing_source = spec.backing_source;
      named.backing = std::move(spec.backing);
    }
    spec = std::move(named);
  }
  if (spec.format.empty()) spec.format = info.backing_format;
  return spec;
}

/// Is the file one whose backing chain is being walked already? A raw layer ends the chain, even
/// when it shows the bytes of an image above it.
bool closes_a_loop(Storage& storage, const std::vector<std::string>& paths, const ImageSpec& next) {
  if (next.format == "raw" || next.format == "file") return false;
  return std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
    return storage.is_same_file(path, next.file->path);
  });
}

Error within_open(Error error, const ImageRequest& request) {
  if (!request.name_in_errors) return error;
  return std::move(error).within(fmt::format("Could not open '{}'", request.name));
}

/// Like the original's nested open: one "Could not open backing file" per layer above.
Error within_chain(Error error, size_t layers_above, const ImageRequest& request) {
  for (size_t i = 0; i < layers_above; ++i) {
    error = std::move(error).within("Could not open backing file");
  }
  return within_open(std::move(error), request);
}

/// Opens what lies below the only layer of `layers`.
Task<Result<void>> open_backing_layers(Storage& storage, ImageSpec spec, OpenMode mode,
                                       const ImageRequest& request, std::vector<Layer>& layers,
                                       Messages& messages) {
  mode.writable = false;
  mode.incomplete_size.reset();
  mode.for_check = false;
  std::vector<std::string> paths;
  while (true) {
    paths.push_back(spec.file->path);
    const bool names_backing = spec.backing != nullptr || !spec.backing_reference.empty();
    if (names_backing && !(*driver_of_format(layers.back().format))->supports_backing()) {
      co_return within_chain(Error(EINVAL, "Driver doesn't support backing files"),
                             layers.size() - 1, request);
    }
    mode.cache = spec.cache.applied_to(mode.cache);
    NameWarnings warnings;
    Result<std::optional<ImageSpec>> next = backing_spec(spec, layers.back(), warnings);
    for (const std::string& warning : warnings) messages.warning(warning);
    if (!next) co_return within_chain(std::move(next).error(), layers.size(), request);
    layers.back().spec = std::make_unique<ImageSpec>(std::move(spec));
    if (!*next) co_return ok();
    spec = std::move(**next);
    if (closes_a_loop(storage, paths, spec)) {
      co_return Error(ELOOP,
                      fmt::format("Backing file '{}' creates an infinite loop.", spec.file->path));
    }
    Result<Layer> layer = co_await open_layer(storage, spec, mode, messages);
    if (!layer) co_return within_chain(std::move(layer).error(), layers.size(), request);
    layers.push_back(std::move(*layer));
  }
}

/// Cluster-wise writes into a layer need what lies below it.
void connect_backing(ImageChain& chain, unsigned depth) {
  if (depth + 1 >= chain.layers().size()) return;
  chain.layers()[depth].image->set_backing_reader(
      [&chain, depth](uint64_t guest_offset, std::span<std::byte> buffer) {
        return chain.read_layers(depth + 1, guest_offset, buffer);
      });
}

}  // namespace

void warn_of_guess(const std::string& name, Messages& messages) {
  messages.raw_line(fmt::format(
      "WARNING: Image format was not specified for '{}' and probing guessed raw.", name));
  messages.raw_line(
      "         Automatically detecting the format is dangerous for raw images, write operations "
      "on "
      "block 0 will be restricted.");
  messages.raw_line("         Specify the 'raw' format explicitly to remove the restrictions.");
}

Task<Result<std::unique_ptr<ImageChain>>> open_image(Storage& storage, const ImageRequest& request,
                                                     Messages& messages) {
  CO_RETURN_IF_ERROR(check_force_share(request));
  NameWarnings warnings;
  Result<ImageSpec> spec = spec_of_request(request, warnings);
  for (const std::string& warning : warnings) messages.warning(warning);
  if (!spec) co_return within_open(std::move(spec).error(), request);
  OpenMode mode;
  mode.writable = request.writable;
  mode.cache = request.cache;
  mode.force_share = request.force_share;
  mode.refuses_writers = request.refuses_writers;
  mode.may_resize = request.may_resize;
  mode.for_check = request.for_check;
  mode.metadata_only = request.metadata_only;
  mode.refuse_truncated = request.refuse_truncated;
  mode.incomplete_size = request.incomplete_size;
  mode.limits = request.untrusted;

  Result<Layer> top = co_await open_layer(storage, *spec, mode, messages);
  if (!top) co_return within_open(std::move(top).error(), request);
  std::vector<Layer> layers;
  layers.push_back(std::move(*top));
  if (request.with_backing) {
    CO_RETURN_IF_ERROR(
        co_await open_backing_layers(storage, std::move(*spec), mode, request, layers, messages));
  }
  auto chain = std::make_unique<ImageChain>(std::move(layers), storage.executor());
  if (request.untrusted && !request.metadata_only && !request.for_check) {
    Result<void> checked = co_await check_untrusted_disk(*chain, *request.untrusted);
    if (!checked) co_return within_open(std::move(checked).error(), request);
  }
  // An image opened for a check is repaired, never written to as a guest would.
  if (request.writable && !request.for_check) connect_backing(*chain, 0);
  co_return chain;
}

Task<Result<void>> reopen_writable(Storage& storage, ImageChain& chain, unsigned depth,
                                   CacheMode cache, Messages& messages) {
  ImageSpec& spec = *chain.layers()[depth].spec;
  if (spec.force_share) {
    co_return Error(EINVAL, "force-share=on can only be used with read-only images");
  }
  if (spec.is_read_only) co_return Error(EACCES, "Block node is read-only");
  OpenMode mode;
  mode.writable = true;
  // Others may write to a raw image, too, but not while its length changes.
  mode.may_resize = chain.layer_size(depth) < chain.virtual_size();
  mode.cache = cache;
  mode.was_guessed_raw = chain.layers()[depth].was_guessed_raw;
  chain.replace_image(depth, nullptr);
  CO_ASSIGN_OR_RETURN(Layer layer, co_await open_layer(storage, spec, mode, messages));
  chain.replace_image(depth, std::move(layer.image));
  connect_backing(chain, depth);
  co_return ok();
}

Result<std::string> backing_name_of(const Layer& layer) {
  const std::string& name =
      layer.name.starts_with("json:") ? layer.image->file().name() : layer.name;
  return resolve_backing_name(name, layer.image->info().backing_file);
}

Result<std::string> resolve_backing_name(const std::string& overlay_name,
                                         const std::string& backing_name) {
  if (has_protocol(backing_name) || backing_name.starts_with('/')) return backing_name;
  if (overlay_name.starts_with("json:")) {
    return Error(EINVAL,
                 fmt::format("Cannot use relative backing file names for '{}'", overlay_name));
  }
  const size_t slash = overlay_name.rfind('/');
  if (slash != std::string::npos) return overlay_name.substr(0, slash + 1) + backing_name;
  const size_t protocol_end = has_protocol(overlay_name) ? overlay_name.find(':') + 1 : 0;
  return overlay_name.substr(0, protocol_end) + backing_name;
}

}  // namespace imgconv
