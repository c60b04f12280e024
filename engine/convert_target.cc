#include "engine/convert_target.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "engine/open_image.h"
#include "engine/option_pieces.h"
#include "formats/format_names.h"
#include "formats/registry.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

std::optional<std::string> option_value(std::string_view text, std::string_view name) {
  std::optional<std::string> value;
  for (const OptionPiece& piece : split_option_pieces(text)) {
    if (piece.name == name) value = piece.value;
  }
  return value;
}

/// "DST: REASON", as creating says it, becomes "DST: error while converting FMT: REASON".
Error conversion_error(const Error& error, const ConvertOptions& options) {
  const std::string prefix = options.target + ": ";
  if (!error.text().starts_with(prefix)) return error;
  const std::string text = fmt::format("{}error while converting {}: {}", prefix,
                                       options.target_format, error.text().substr(prefix.size()));
  return Error(error.code(), text).with_hint(error.hint());
}

Result<void> check_source_count(const ConvertOptions& options, bool has_backing) {
  if (!has_backing || options.sources.size() < 2) return ok();
  return Error(EINVAL,
               "Having a backing file for the target makes no sense when concatenating multiple "
               "input images");
}

/// The checks of CLI.md 2.1, step 5, in its order.
Result<void> check_combination(const ConvertOptions& options, const BlockDriver& driver,
                               bool has_backing, bool has_backing_format) {
  if (has_backing && !driver.supports_backing()) {
    return Error(ENOTSUP, fmt::format("Backing file not supported for file format '{}'",
                                      options.target_format));
  }
  if (options.backing_format && !driver.supports_backing()) {
    return Error(ENOTSUP, fmt::format("Backing file format not supported for file format '{}'",
                                      options.target_format));
  }
  RETURN_IF_ERROR(check_source_count(options, has_backing));
  if (has_backing && !has_backing_format) {
    return Error(EINVAL, "Use of backing file requires explicit backing format");
  }
  if (!options.compress) return ok();
  if (!driver.supports_compression()) {
    return Error(ENOTSUP, "Compression not supported for this file format");
  }
  const std::string preallocation =
      option_value(options.target_options, "preallocation").value_or("off");
  if (preallocation != "off") {
    return Error(ENOTSUP, "Compression and preallocation not supported at the same time");
  }
  return ok();
}

/// Opens the future backing file once, so that a missing one is noticed before the target is gone.
Task<Result<void>> check_backing(Storage& storage, const ConvertOptions& options,
                                 const PreparedCreate& create, Messages& messages) {
  const std::string name = create.options.options.string("backing_file").value_or("");
  if (name.empty()) co_return ok();
  CO_ASSIGN_OR_RETURN(const std::string resolved, resolve_backing_name(options.target, name));
  ImageRequest request;
  request.name = resolved;
  request.format = create.options.options.string("backing_fmt").value_or("");
  request.name_in_errors = false;
  Result<std::unique_ptr<ImageChain>> chain = co_await open_image(storage, request, messages);
  if (!chain) {
    co_return std::move(chain).error().within(
        fmt::format("Could not open '{}': Could not open backing file", options.target));
  }
  co_return ok();
}

}  // namespace

Task<Result<PreparedTarget>> prepare_target(Storage& storage, const ConvertOptions& options,
                                            uint64_t virtual_size, Messages& messages) {
  if (options.target_image_opts && !options.target_format.empty()) {
    co_return Error(EINVAL, "--image-opts and --format are mutually exclusive");
  }
  PreparedTarget prepared;
  prepared.has_backing = options.backing_file.has_value() ||
                         option_value(options.target_options, "backing_file").has_value();
  if (options.target_is_zero && prepared.has_backing) {
    co_return Error(EINVAL,
                    "Cannot use --target-is-zero when the destination image has a backing file");
  }
  if (options.skip_create) {
    CO_RETURN_IF_ERROR(check_source_count(options, prepared.has_backing));
    co_return prepared;
  }
  const BlockDriver* const driver = find_driver(options.target_format);
  if (driver == nullptr) {
    co_return no_creation(options.target_format);
  }
  const bool has_format = options.backing_format.has_value() ||
                          option_value(options.target_options, "backing_fmt").has_value();
  // First: what cannot be parsed is said without the target's name, unlike in `create`.
  CO_ASSIGN_OR_RETURN([[maybe_unused]] const OptionValues parsed,
                      parse_options(creation_options(*driver), options.target_options));
  CO_RETURN_IF_ERROR(check_combination(options, *driver, prepared.has_backing, has_format));

  CreateRequest request;
  request.name = options.target;
  request.format = options.target_format;
  request.size = virtual_size;
  // The size is the source's; qemu-img ignores this one silently (CLI.md 12.5).
  request.options = without_option(options.target_options, "size");
  request.backing_file = options.backing_file;
  request.backing_format = options.backing_format;
  request.backing_unsafe = true;
  request.cache = options.target_cache;
  request.name_in_errors = false;
  CO_ASSIGN_OR_RETURN(prepared.create, co_await prepare_create(storage, request, messages));
  co_return prepared;
}

Task<Result<void>> validate_target(Storage& storage, const ConvertOptions& options,
                                   const PreparedTarget& prepared, Messages& messages) {
  if (!prepared.create) co_return ok();
  const PreparedCreate& create = *prepared.create;
  const Result<void> valid = create.driver->validate_create(create.options);
  if (!valid) {
    co_return conversion_error(Error(valid.error()).within(options.target), options);
  }
  co_return co_await check_backing(storage, options, create, messages);
}

Task<Result<void>> create_target(Storage& storage, const ConvertOptions& options,
                                 const PreparedTarget& prepared) {
  if (!prepared.create) co_return ok();
  const Result<void> created = co_await perform_create(storage, *prepared.create);
  if (!created) co_return conversion_error(created.error(), options);
  co_return ok();
}

Task<Result<std::unique_ptr<ImageChain>>> open_target(Storage& storage,
                                                      const ConvertOptions& options,
                                                      const PreparedTarget& prepared,
                                                      Messages& messages) {
  ImageRequest request;
  request.name = options.target;
  request.format = options.target_image_opts ? "" : options.target_format;
  request.image_opts = options.target_image_opts;
  request.writable = true;
  request.may_resize = prepared.create.has_value();
  request.cache = options.target_cache;
  if (prepared.create && prepared.create->options.is_incomplete) {
    request.incomplete_size = round_up(prepared.create->options.virtual_size, kSectorSize);
  }
  CO_ASSIGN_OR_RETURN(std::unique_ptr<ImageChain> chain,
                      co_await open_image(storage, request, messages));
  co_return chain;
}

TargetFacts target_facts(ImageChain& chain, const ConvertOptions& options,
                         const PreparedTarget& prepared) {
  Image& image = chain.top();
  TargetFacts facts;
  facts.virtual_size = chain.virtual_size();
  facts.cluster_size = image.info().cluster_size.value_or(0);
  facts.is_identity = facts.cluster_size == 0;
  facts.prefers_async = image.file().prefers_async();
  if (const Result<FileStat> stat = image.file().stat()) {
    facts.request_alignment = stat->request_alignment;
    facts.is_new_file = !options.skip_create && !stat->is_block_device;
  }
  facts.is_new = !options.skip_create;
  facts.reads_as_zeros_initially = image.reads_as_zeros_initially();
  facts.holds_clusters = image.holds_clusters();
  facts.has_backing = prepared.has_backing;
  if (chain.layers().size() > 1) {
    facts.backing_size = round_up(chain.layers()[1].image->info().virtual_size, kSectorSize);
  }
  facts.compression = image.compression();
  return facts;
}

}  // namespace imgconv
