#include "engine/commit_pass.h"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "engine/guest_write.h"
#include "loop/interrupt.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// A multiple of every cluster size.
constexpr uint64_t kWindowBytes = 2 * kMiB;
// QEMU's granularity of a copy between images: the target's cluster size within these bounds.
constexpr uint64_t kMinGranularity = 4 * kKiB;
constexpr uint64_t kMaxGranularity = 64 * kKiB;

bool reads_as_zeros(const Extent& extent) {
  return extent.kind == ExtentKind::kZero || extent.kind == ExtentKind::kUnallocated;
}

/// Extends the last piece, or begins a new one.
void append(std::vector<CommitPass::Piece>& pieces, const CommitPass::Piece& next) {
  if (!pieces.empty()) {
    CommitPass::Piece& last = pieces.back();
    if (last.is_zero == next.is_zero && last.guest_offset + last.length == next.guest_offset) {
      last.length += next.length;
      return;
    }
  }
  pieces.push_back(next);
}

}  // namespace

bool CommitPass::is_held_above(const ChainExtent& piece) const {
  // Behind the end of a shorter layer its zeros hide what is below.
  return piece.is_present || piece.depth + 1 < base_;
}

CommitPass::CommitPass(ImageChain& chain, unsigned base, uint64_t rate_limit, Executor& executor,
                       Messages& messages)
    : chain_(chain),
      base_(base),
      target_(*chain.layers()[base].image),
      executor_(executor),
      messages_(messages),
      size_(chain.virtual_size()),
      rate_limit_(rate_limit) {
  const ImageInfo& info = target_.info();
  granularity_ =
      std::clamp(info.cluster_size.value_or(kMaxGranularity), kMinGranularity, kMaxGranularity);
  zero_alignment_ = std::max(granularity_, info.subcluster_size.value_or(1));
}

Task<Result<void>> CommitPass::skip_empty() {
  if (position_ >= size_) co_return ok();
  CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> found,
                      co_await chain_.map_layers(0, base_, position_, size_ - position_));
  uint64_t end = found.back().extent.guest_end();
  for (const ChainExtent& piece : found) {
    if (!is_held_above(piece)) continue;
    end = piece.extent.guest_offset;
    break;
  }
  // The window in which the answer ends is looked at as a whole.
  position_ = std::max(position_, end == size_ ? size_ : round_down(end, kWindowBytes));
  co_return ok();
}

Task<Result<bool>> CommitPass::claim(Window& window) {
  CO_RETURN_IF_ERROR(co_await skip_empty());
  if (position_ >= size_) co_return false;
  window.guest_offset = position_;
  window.length = std::min(kWindowBytes, size_ - position_);
  position_ += window.length;
  window.pieces.clear();
  CO_ASSIGN_OR_RETURN(
      const std::vector<Piece> held,
      co_await held_above(window.guest_offset, window.guest_offset + window.length));
  for (const Piece& piece : held) {
    CO_RETURN_IF_ERROR(co_await append_pieces(piece, window.pieces));
  }
  CO_RETURN_IF_ERROR(co_await wait_for_rate(window));
  co_return true;
}

Task<Result<std::vector<CommitPass::Piece>>> CommitPass::held_above(uint64_t begin, uint64_t end) {
  std::vector<Piece> held;
  const uint64_t window_end = end;
  while (begin < end) {
    CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> found,
                        co_await chain_.map_layers(0, base_, begin, end - begin));
    for (const ChainExtent& piece : found) {
      if (!is_held_above(piece)) continue;
      const uint64_t first = round_down(piece.extent.guest_offset, granularity_);
      const uint64_t last = std::min(round_up(piece.extent.guest_end(), granularity_), window_end);
      if (!held.empty() && held.back().guest_offset + held.back().length >= first) {
        held.back().length = last - held.back().guest_offset;
      } else {
        held.push_back({first, last - first, false});
      }
    }
    begin = found.back().extent.guest_end();
  }
  co_return held;
}

Task<Result<void>> CommitPass::append_pieces(const Piece& held, std::vector<Piece>& pieces) {
  const uint64_t end = held.guest_offset + held.length;
  for (uint64_t position = held.guest_offset; position < end;) {
    CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> found,
                        co_await chain_.map(position, end - position));
    const uint64_t found_end = found.back().extent.guest_end();
    for (const ChainExtent& piece : found) {
      while (position < piece.extent.guest_end()) {
        // Zeros are told if they are whole units; whatever else is there is read.
        uint64_t length = 0;
        if (reads_as_zeros(piece.extent) && is_aligned(position, zero_alignment_)) {
          length = round_down(piece.extent.guest_end() - position, zero_alignment_);
        }
        const bool is_zero = length > 0;
        if (!is_zero) length = std::min(granularity_, end - position);
        append(pieces, {position, length, is_zero});
        position += length;
      }
    }
    position = std::max(position, found_end);
  }
  co_return ok();
}

Task<Result<void>> CommitPass::wait_for_rate(const Window& window) {
  uint64_t bytes = 0;
  for (const Piece& piece : window.pieces) bytes += piece.is_zero ? 0 : piece.length;
  const std::chrono::nanoseconds wait = rate_limit_.charge(bytes, std::chrono::steady_clock::now());
  if (wait.count() <= 0) co_return ok();
  // As in a convert: a limited copy blocks one thread of the pool and no more.
  const auto pause = [wait]() -> Result<void> {
    InterruptGuard::pause_ns(wait.count());
    return ok();
  };
  CO_RETURN_IF_ERROR(co_await run_on(executor_, pause));
  co_return ok();
}

Task<Result<void>> CommitPass::prepare(Window& window) {
  for (const Piece& piece : window.pieces) {
    if (piece.is_zero) continue;
    if (window.buffer.size() == 0) window.buffer = IoBuffer(kWindowBytes);
    const std::span<std::byte> bytes =
        window.buffer.span().subspan(piece.guest_offset - window.guest_offset, piece.length);
    CO_RETURN_IF_ERROR(co_await chain_.read(piece.guest_offset, bytes));
  }
  co_return ok();
}

Task<Result<void>> CommitPass::write(Window& window) {
  for (const Piece& piece : window.pieces) {
    if (piece.is_zero) {
      CO_RETURN_IF_ERROR(co_await target_.write_zeroes(piece.guest_offset, piece.length, true));
      continue;
    }
    const std::span<const std::byte> bytes =
        window.buffer.span().subspan(piece.guest_offset - window.guest_offset, piece.length);
    CO_RETURN_IF_ERROR(co_await write_guest(target_, piece.guest_offset, bytes));
  }
  messages_.progress(window.guest_offset + window.length, size_);
  co_return ok();
}

}  // namespace imgconv
