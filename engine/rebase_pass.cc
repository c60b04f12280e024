#include "engine/rebase_pass.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "engine/guest_write.h"
#include "formats/extent_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// As much as qemu-img compares at once. Which clusters behind the end of the old backing file
/// become zero clusters, and which zeros, depends on it.
constexpr uint64_t kWindowBytes = 2 * kMiB;

Error metadata_error(const Error& cause) {
  return Error(cause.code(),
               fmt::format("error while reading image metadata: {}", errno_text(cause.code())));
}

bool reads_as_zeros(const Extent& extent) {
  return extent.is_zero || extent.kind == ExtentKind::kZero ||
         extent.kind == ExtentKind::kUnallocated;
}

Task<Result<ExtentList>> unallocated_extents(Image& image, const RebasePass::Run& run) {
  ExtentList gaps;
  uint64_t guest_offset = run.guest_offset;
  const uint64_t end = run.guest_offset + run.length;
  while (guest_offset < end) {
    CO_ASSIGN_OR_RETURN(const ExtentList extents,
                        co_await image.map(guest_offset, end - guest_offset));
    for (const Extent& extent : extents) {
      if (extent.kind == ExtentKind::kUnallocated) gaps.push_back(extent);
    }
    guest_offset = extents.back().guest_end();
  }
  co_return gaps;
}

/// Does the chain from layer `first` on hold no data in the range?
Task<Result<bool>> is_zero(ImageChain& chain, unsigned first, uint64_t guest_offset,
                           uint64_t length) {
  const auto layers = static_cast<unsigned>(chain.layers().size());
  if (first >= layers) co_return true;
  const uint64_t end = std::min(guest_offset + length, chain.layer_size(first));
  while (guest_offset < end) {
    CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> found,
                        co_await chain.map_layers(first, layers, guest_offset, end - guest_offset));
    for (const ChainExtent& piece : found) {
      if (!reads_as_zeros(piece.extent)) co_return false;
    }
    guest_offset = found.back().extent.guest_end();
  }
  co_return true;
}

}  // namespace

RebasePass::RebasePass(const RebaseSides& sides, Executor& executor, Messages& messages)
    : sides_(sides),
      executor_(executor),
      messages_(messages),
      size_(sides.chain.virtual_size()),
      old_size_(sides.chain.layers().size() > 1 ? sides.chain.layer_size(1) : 0) {
  const ImageInfo& info = sides.chain.top().info();
  alignment_ = info.subcluster_size.value_or(1);
  if (sides.compress) alignment_ = info.cluster_size.value_or(1);
}

Task<Result<Extent>> RebasePass::image_extent(uint64_t length) {
  while (next_mapped_ < mapped_.size() && mapped_[next_mapped_].guest_end() <= position_) {
    ++next_mapped_;
  }
  if (next_mapped_ == mapped_.size()) {
    Result<ExtentList> found = co_await sides_.chain.top().map(position_, size_ - position_);
    if (!found) co_return metadata_error(found.error());
    mapped_ = std::move(*found);
    next_mapped_ = 0;
  }
  const Extent& extent = mapped_[next_mapped_];
  co_return slice_extent(extent, position_, std::min(extent.guest_end(), position_ + length));
}

Task<Result<RebasePass::BetweenStatus>> RebasePass::between_status(uint64_t length) {
  BetweenStatus status{length, true};
  // Behind the end of the old backing file everything reads as zeros, which the new one may not.
  if (!sides_.new_depth || position_ >= old_size_) co_return status;
  if (*sides_.new_depth == 1) {
    status.is_changed = false;
    co_return status;
  }
  const Result<std::vector<ChainExtent>> found = co_await sides_.chain.map_layers(
      1, *sides_.new_depth, position_, std::min(length, old_size_ - position_));
  if (!found) co_return metadata_error(found.error());
  const ChainExtent& first = found->front();
  status.length = first.extent.length;
  // Behind the end of a shorter layer its zeros hide what is below.
  status.is_changed = first.is_present || first.depth + 1 < *sides_.new_depth;
  co_return status;
}

Result<void> RebasePass::check_kept(const Extent& extent) {
  if (extent.kind != ExtentKind::kData) return ok();
  if (!kept_file_length_) {
    ASSIGN_OR_RETURN(const FileStat stat, extent.file->blocking().stat());
    kept_file_length_ = stat.length;
  }
  return check_file_end(extent, *kept_file_length_);
}

Task<Result<bool>> RebasePass::claim(Window& window) {
  while (position_ < size_) {
    const uint64_t limit = std::min(kWindowBytes, size_ - position_);
    CO_ASSIGN_OR_RETURN(const Extent extent, co_await image_extent(limit));
    if (extent.kind != ExtentKind::kUnallocated) {
      CO_RETURN_IF_ERROR(check_kept(extent));
      position_ += extent.length;
      continue;
    }
    CO_ASSIGN_OR_RETURN(const BetweenStatus status, co_await between_status(extent.length));
    if (!status.is_changed) {
      position_ += status.length;
      continue;
    }
    // Layers below may have smaller clusters than the image.
    window.guest_offset = round_down(position_, alignment_);
    const uint64_t end = std::min(round_up(position_ + status.length, alignment_), size_);
    window.length = end - window.guest_offset;
    position_ = end;
    co_return true;
  }
  co_return false;
}

Task<Result<bool>> RebasePass::is_zero_on_both_sides(const Window& window) {
  const auto layers = static_cast<unsigned>(sides_.chain.layers().size());
  CO_ASSIGN_OR_RETURN(const bool is_old_zero,
                      co_await is_zero(sides_.chain, 1, window.guest_offset, window.length));
  if (!is_old_zero) co_return false;
  ImageChain& new_chain = sides_.new_chain != nullptr ? *sides_.new_chain : sides_.chain;
  const unsigned first = sides_.new_chain != nullptr ? 0 : sides_.new_depth.value_or(layers);
  CO_ASSIGN_OR_RETURN(const bool is_new_zero,
                      co_await is_zero(new_chain, first, window.guest_offset, window.length));
  co_return is_new_zero;
}

Task<Result<void>> RebasePass::prepare(Window& window) {
  window.runs.clear();
  // What cannot be mapped is met again when it is read, under the name of its side.
  const Result<bool> is_settled = co_await is_zero_on_both_sides(window);
  if (is_settled && *is_settled) co_return ok();
  CO_RETURN_IF_ERROR(co_await read(window));
  const auto compare_all = [this, &window]() -> Result<void> {
    compare(window);
    return ok();
  };
  CO_RETURN_IF_ERROR(co_await run_on(executor_, compare_all));
  co_return ok();
}

Task<Result<void>> RebasePass::read(Window& window) {
  // A window grows beyond kWindowBytes by the alignment on either side.
  const uint64_t capacity = kWindowBytes + 2 * alignment_;
  if (window.old_buffer.size() == 0) window.old_buffer = IoBuffer(capacity);
  if (window.new_buffer.size() == 0) window.new_buffer = IoBuffer(capacity);
  // Compressed clusters are written whole, together with subclusters that the image has already.
  const unsigned first_old = sides_.compress ? 0 : 1;
  const Result<void> is_old_read =
      co_await sides_.chain.read_layers(first_old, window.guest_offset, window.old_bytes());
  if (!is_old_read) {
    co_return Error(is_old_read.error().code(), "error while reading from old backing file");
  }
  const auto layers = static_cast<unsigned>(sides_.chain.layers().size());
  ImageChain& new_chain = sides_.new_chain != nullptr ? *sides_.new_chain : sides_.chain;
  const unsigned first = sides_.new_chain != nullptr ? 0 : sides_.new_depth.value_or(layers);
  const Result<void> is_new_read =
      co_await new_chain.read_layers(first, window.guest_offset, window.new_bytes());
  if (!is_new_read) {
    co_return Error(is_new_read.error().code(), "error while reading from new backing file");
  }
  co_return ok();
}

void RebasePass::compare(Window& window) const {
  bool was_equal = true;
  for (uint64_t at = 0; at < window.length; at += alignment_) {
    const uint64_t length = std::min(alignment_, window.length - at);
    const bool is_equal = std::memcmp(window.old_bytes().subspan(at).data(),
                                      window.new_bytes().subspan(at).data(), length) == 0;
    if (!is_equal && !was_equal) window.runs.back().length += length;
    if (!is_equal && was_equal) {
      const uint64_t guest_offset = window.guest_offset + at;
      window.runs.push_back({guest_offset, length, guest_offset >= old_size_});
    }
    was_equal = is_equal;
  }
}

Task<Result<void>> RebasePass::write(Window& window) {
  for (const Run& run : window.runs) {
    const Result<void> written = co_await write_run(window, run);
    if (!written) {
      const int code = written.error().code();
      co_return Error(code, fmt::format("Error while writing to COW image: {}", errno_text(code)));
    }
  }
  messages_.progress(window.guest_end(), size_);
  co_return ok();
}

Task<Result<void>> RebasePass::write_run(Window& window, const Run& run) {
  Image& image = sides_.chain.top();
  const std::span<const std::byte> bytes =
      window.old_bytes().subspan(run.guest_offset - window.guest_offset, run.length);
  if (run.is_zero) {
    CO_RETURN_IF_ERROR(co_await write_zeros(run));
  } else if (sides_.compress) {
    CO_RETURN_IF_ERROR(co_await write_guest_compressed(image, executor_, run.guest_offset, bytes));
  } else {
    CO_RETURN_IF_ERROR(co_await write_guest(image, run.guest_offset, bytes));
  }
  co_return ok();
}

Task<Result<void>> RebasePass::write_zeros(const Run& run) {
  Image& image = sides_.chain.top();
  // The image may hold a part of the range: compressed runs are made of whole clusters.
  CO_ASSIGN_OR_RETURN(const ExtentList gaps, co_await unallocated_extents(image, run));
  for (const Extent& gap : gaps) {
    CO_RETURN_IF_ERROR(co_await image.write_zeroes(gap.guest_offset, gap.length, false));
  }
  // An image without a backing file may say "zeros" by saying nothing, which is about to change its
  // meaning. Version 2 of qcow2 cannot say it otherwise.
  CO_ASSIGN_OR_RETURN(const ExtentList rest, co_await unallocated_extents(image, run));
  std::vector<std::byte> zeros;
  for (const Extent& gap : rest) {
    zeros.resize(gap.length);
    CO_RETURN_IF_ERROR(co_await write_guest(image, gap.guest_offset, zeros));
  }
  co_return ok();
}

}  // namespace imgconv
