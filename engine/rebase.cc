#include "engine/rebase.h"

#include <fmt/core.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "engine/backing_layer.h"
#include "engine/ordered_pass.h"
#include "engine/rebase_pass.h"
#include "formats/format_names.h"
#include "formats/registry.h"
#include "loop/try.h"

namespace imgconv {
namespace {

/// Readers and comparers beside the one that writes.
constexpr unsigned kWorkers = 4;

/// What can be refused before anything is compared.
Result<void> check_options(const RebaseOptions& options, const ImageChain& chain) {
  const BlockDriver* const driver = find_driver(chain.top().info().format);
  if (options.compress && (driver == nullptr || !driver->supports_compression())) {
    return Error(ENOTSUP, "Compression not supported for this file format");
  }
  if (options.backing_format && !is_known_format(*options.backing_format)) {
    return Error(EINVAL, fmt::format("Invalid format name: '{}'", *options.backing_format));
  }
  return ok();
}

/// Where the new backing file is: in the old chain, in a chain of its own, or nowhere.
struct NewBacking {
  std::optional<unsigned> depth;
  std::unique_ptr<ImageChain> chain;
};

Task<Result<NewBacking>> open_new_backing(Storage& storage, const RebaseOptions& options,
                                          const ImageChain& chain, Messages& messages) {
  NewBacking found;
  if (options.backing_file->empty()) co_return found;
  Result<std::string> name =
      resolve_backing_name(chain.layers().front().name, *options.backing_file);
  if (!name) co_return std::move(name).error().within("Could not resolve backing filename");
  found.depth = find_layer_of_file(storage, chain, *name);
  if (found.depth) co_return found;
  ImageRequest request;
  request.name = *name;
  request.format = options.backing_format.value_or("");
  request.cache = options.backing_cache;
  request.force_share = options.force_share;
  request.refuse_truncated = true;
  request.name_in_errors = false;
  Result<std::unique_ptr<ImageChain>> opened = co_await open_image(storage, request, messages);
  if (!opened) {
    co_return std::move(opened).error().within(
        fmt::format("Could not open new backing file '{}'", *options.backing_file));
  }
  found.chain = std::move(*opened);
  co_return found;
}

Task<Result<void>> keep_content(Storage& storage, const RebaseOptions& options, ImageChain& chain,
                                Messages& messages) {
  CO_ASSIGN_OR_RETURN(const NewBacking new_backing,
                      co_await open_new_backing(storage, options, chain, messages));
  RebaseSides sides(chain);
  sides.new_depth = new_backing.depth;
  sides.new_chain = new_backing.chain.get();
  sides.compress = options.compress;
  RebasePass steps(sides, storage.executor(), messages);
  OrderedPass<RebasePass> pass(steps);
  Result<void> kept = co_await pass.run(kWorkers);
  if (new_backing.chain) {
    const Result<void> closed = co_await new_backing.chain->close();
    if (kept && !closed) co_return Error(closed.error());
  }
  co_return kept;
}

Task<Result<void>> change_backing(const RebaseOptions& options, Image& image) {
  const std::string name = options.backing_file.value_or("");
  const std::string format = name.empty() ? "" : options.backing_format.value_or("");
  // Without a format a later reader would have to guess, and raw data can say what it likes.
  const bool lacks_format = !name.empty() && format.empty();
  Result<void> changed = Error::from_errno(EINVAL);
  if (!lacks_format) changed = co_await image.change_backing(name, format);
  if (changed) co_return ok();
  const int code = changed.error().code();
  std::string reason = errno_text(code);
  if (code == ENOSPC) reason = "No space left in the file header";
  if (lacks_format) reason = "backing format must be specified";
  // "(null)" is what scripts see when they give no name.
  co_return Error(code, fmt::format("Could not change the backing file to '{}': {}",
                                    options.backing_file.value_or("(null)"), reason));
}

}  // namespace

Task<Result<void>> rebase(Storage& storage, const RebaseOptions& options, Messages& messages) {
  ImageRequest request = options.image;
  request.writable = true;
  request.with_backing = !options.is_unsafe;
  request.refuse_truncated = !options.is_unsafe;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                      co_await open_image(storage, request, messages));
  Result<void> done = check_options(options, *chain);
  if (done && !options.is_unsafe) {
    done = co_await keep_content(storage, options, *chain, messages);
  }
  if (done) done = co_await change_backing(options, chain->top());
  const Result<void> closed = co_await chain->close();
  if (!done) co_return done;
  if (!closed) co_return Error(closed.error());
  messages.progress(1, 1);
  co_return ok();
}

}  // namespace imgconv
