#include "engine/commit.h"

#include <fmt/core.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "engine/backing_layer.h"
#include "engine/commit_pass.h"
#include "engine/ordered_pass.h"
#include "loop/try.h"

namespace imgconv {
namespace {

/// Readers beside the one that writes.
constexpr unsigned kWorkers = 4;

Result<unsigned> find_base(Storage& storage, const ImageChain& chain,
                           const CommitOptions& options) {
  if (options.base) {
    const std::optional<unsigned> depth = find_backing_layer(storage, chain, *options.base);
    if (depth) return *depth;
    return Error(EINVAL, fmt::format("Did not find '{}' in the backing chain of '{}'",
                                     *options.base, options.image.name));
  }
  if (chain.layers().size() < 2) return Error(EINVAL, "Image does not have a backing file");
  return 1U;
}

/// The original does the work in a job of its own, whose failure has one text.
Error job_error(const Error& cause) {
  return Error(cause.code(), fmt::format("Block job failed: {}", errno_text(cause.code())));
}

Task<Result<void>> grow_base(ImageChain& chain, unsigned depth) {
  const uint64_t size = chain.virtual_size();
  if (chain.layer_size(depth) >= size) co_return ok();
  ResizeRequest request;
  request.virtual_size = size;
  if (depth + 1 < chain.layers().size()) request.backing_size = chain.layer_size(depth + 1);
  const Result<void> resized = co_await chain.layers()[depth].image->resize(request);
  if (!resized) co_return job_error(resized.error());
  co_return ok();
}

Task<Result<void>> fill_base(ImageChain& chain, unsigned depth, const CommitOptions& options,
                             Executor& executor, Messages& messages) {
  CO_RETURN_IF_ERROR(co_await grow_base(chain, depth));
  CommitPass steps(chain, depth, options.rate_limit, executor, messages);
  OrderedPass<CommitPass> pass(steps);
  const Result<void> copied = co_await pass.run(kWorkers);
  if (!copied) co_return job_error(copied.error());
  const Result<void> flushed = co_await chain.layers()[depth].image->flush(true);
  if (!flushed) co_return job_error(flushed.error());
  co_return ok();
}

/// Everything between the open chain and its end.
Task<Result<void>> commit_into(Storage& storage, ImageChain& chain, const CommitOptions& options,
                               Messages& messages) {
  messages.progress(0, 1);
  CO_ASSIGN_OR_RETURN(const unsigned depth, find_base(storage, chain, options));
  // Once more, as qemu-img shows it when its job begins.
  messages.progress(0, 1);
  CO_RETURN_IF_ERROR(
      co_await reopen_writable(storage, chain, depth, options.image.cache, messages));
  CO_RETURN_IF_ERROR(co_await fill_base(chain, depth, options, storage.executor(), messages));
  if (options.drops_overlay || options.base) co_return ok();
  const Result<void> emptied = co_await chain.top().make_empty();
  // A format that cannot be emptied keeps what it has: the same content twice does no harm.
  if (!emptied && emptied.error().code() != ENOTSUP) {
    co_return Error(emptied.error()).within(fmt::format("Could not empty {}", options.image.name));
  }
  co_return ok();
}

}  // namespace

Task<Result<void>> commit(Storage& storage, const CommitOptions& options, Messages& messages) {
  ImageRequest request = options.image;
  request.writable = true;
  request.refuse_truncated = true;
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                      co_await open_image(storage, request, messages));
  Result<void> done = co_await commit_into(storage, *chain, options, messages);
  const Result<void> closed = co_await chain->close();
  if (!done) co_return done;
  if (!closed) co_return Error(closed.error());
  messages.progress(1, 1);
  co_return ok();
}

}  // namespace imgconv
