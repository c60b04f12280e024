#include "engine/image_chain.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "formats/extent_io.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Extents in one answer of map(): enough to make the cost of a call vanish, few enough that an
/// answer stays in the cache (about 100 bytes each).
constexpr size_t kMaxExtents = 4096;

bool is_present(ExtentKind kind) { return kind != ExtentKind::kUnallocated; }

bool needs_layer(const ChainExtent& piece, unsigned depth) {
  return !piece.is_present && piece.depth + 1 == depth;
}

}  // namespace

Extent slice_extent(const Extent& extent, uint64_t begin, uint64_t end) {
  const uint64_t skipped = begin - extent.guest_offset;
  Extent part = extent;
  part.guest_offset = begin;
  part.length = end - begin;
  if (extent.kind == ExtentKind::kCompressed) {
    part.offset_in_cluster += skipped;
  } else if (extent.has_host_offset) {
    part.host_offset += skipped;
  }
  return part;
}

ImageChain::ImageChain(std::vector<Layer> layers, Executor& executor)
    : layers_(std::move(layers)), executor_(executor) {
  assert(!layers_.empty());
}

ImageChain::~ImageChain() = default;

uint64_t ImageChain::layer_size(unsigned depth) const {
  return round_up(layers_[depth].image->info().virtual_size, kSectorSize);
}

uint64_t ImageChain::virtual_size() const { return layer_size(0); }

Task<Result<std::vector<ChainExtent>>> ImageChain::map(uint64_t guest_offset, uint64_t length,
                                                       unsigned max_depth) {
  assert(length > 0 && guest_offset + length <= virtual_size());
  const unsigned all = static_cast<unsigned>(layers_.size());
  co_return co_await map_layers(0, std::min(all, std::max(max_depth, 1U)), guest_offset, length);
}

/// Layers [first, end), one after the other: each answers what those above left open.
Task<Result<std::vector<ChainExtent>>> ImageChain::map_layers(unsigned first, unsigned end,
                                                              uint64_t guest_offset,
                                                              uint64_t length) {
  CO_ASSIGN_OR_RETURN(ChainExtents extents, co_await map_first(first, guest_offset, length));
  for (unsigned depth = first + 1; depth < end; ++depth) {
    const bool is_complete =
        std::none_of(extents.begin(), extents.end(),
                     [depth](const ChainExtent& piece) { return needs_layer(piece, depth); });
    if (is_complete) break;
    CO_ASSIGN_OR_RETURN(extents, co_await fill_from(depth, extents));
  }
  co_return extents;
}

Task<Result<std::vector<ChainExtent>>> ImageChain::map_first(unsigned depth, uint64_t guest_offset,
                                                             uint64_t length) {
  CO_ASSIGN_OR_RETURN(const ExtentList found,
                      co_await layers_[depth].image->map(guest_offset, length));
  ChainExtents extents;
  extents.reserve(found.size());
  for (const Extent& extent : found) {
    extents.push_back({extent, depth, is_present(extent.kind)});
  }
  co_return extents;
}

/// `upper` with its open pieces answered by layer `depth`. Stops early when the answer becomes
/// long.
Task<Result<std::vector<ChainExtent>>> ImageChain::fill_from(unsigned depth,
                                                             const ChainExtents& upper) {
  const uint64_t size = layer_size(depth);
  uint64_t last_open_end = 0;
  for (const ChainExtent& piece : upper) {
    if (needs_layer(piece, depth)) last_open_end = piece.extent.guest_end();
  }
  last_open_end = std::min(last_open_end, size);

  ChainExtents result;
  result.reserve(upper.size() + upper.size() / 2);
  // The layer's own answer, used from `next` on, as long as the pieces lie in it.
  ExtentList batch;
  size_t next = 0;
  for (const ChainExtent& piece : upper) {
    // Beyond the end of this layer the one above stays the deepest that was looked at.
    if (!needs_layer(piece, depth) || piece.extent.guest_offset >= size) {
      result.push_back(piece);
      continue;
    }
    const uint64_t piece_end = std::min(piece.extent.guest_end(), size);
    uint64_t position = piece.extent.guest_offset;
    while (position < piece_end) {
      if (result.size() >= kMaxExtents) co_return result;
      while (next < batch.size() && batch[next].guest_end() <= position) ++next;
      if (next == batch.size()) {
        Result<ExtentList> found =
            co_await layers_[depth].image->map(position, last_open_end - position);
        // What is known is told first, so that the error is met at the offset it belongs to.
        if (!found && !result.empty()) co_return result;
        if (!found) co_return std::move(found).error();
        batch = std::move(*found);
        next = 0;
      }
      const uint64_t end = std::min(piece_end, batch[next].guest_end());
      const Extent part = slice_extent(batch[next], position, end);
      result.push_back({part, depth, is_present(part.kind)});
      position = end;
    }
    if (piece_end < piece.extent.guest_end()) {
      result.push_back(
          {slice_extent(piece.extent, piece_end, piece.extent.guest_end()), piece.depth, false});
    }
  }
  co_return result;
}

Task<Result<void>> ImageChain::read(uint64_t guest_offset, std::span<std::byte> buffer) {
  co_return co_await read_layers(0, guest_offset, buffer);
}

Task<Result<void>> ImageChain::read_layers(unsigned first, uint64_t guest_offset,
                                           std::span<std::byte> buffer) {
  const unsigned count = static_cast<unsigned>(layers_.size());
  const uint64_t size = first < count ? layer_size(first) : 0;
  uint64_t inside = 0;
  if (guest_offset < size) inside = std::min<uint64_t>(buffer.size(), size - guest_offset);
  std::fill(buffer.begin() + static_cast<ptrdiff_t>(inside), buffer.end(), std::byte{0});

  uint64_t done = 0;
  ExtentList extents;
  while (done < inside) {
    CO_ASSIGN_OR_RETURN(const ChainExtents mapped,
                        co_await map_layers(first, count, guest_offset + done, inside - done));
    extents.clear();
    for (const ChainExtent& found : mapped) extents.push_back(found.extent);
    const uint64_t length = mapped.back().extent.guest_end() - (guest_offset + done);
    const std::span<std::byte> part = buffer.subspan(done, length);
    CO_RETURN_IF_ERROR(co_await run_on(
        executor_, [&extents, part] { return read_extents(extents, part, FileEnd::kError); }));
    done += length;
  }
  co_return ok();
}

Task<Result<void>> ImageChain::close() {
  Result<void> first_failure;
  for (Layer& layer : layers_) {
    if (!layer.image) continue;
    Result<void> closed = co_await layer.image->close();
    if (!closed && first_failure) first_failure = std::move(closed);
  }
  co_return first_failure;
}

}  // namespace imgconv
