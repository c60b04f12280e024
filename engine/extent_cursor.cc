#include "engine/extent_cursor.h"

#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/chunk_reader.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

using ChainExtents = std::vector<ChainExtent>;

// qemu-img asks for at most INT_MAX bytes, in whole sectors, at once; a longer extent ends there,
// and so does the run of 2 MiB pieces in it.
constexpr uint64_t kMaxStatus = round_down(0x7fffffff, kSectorSize);
// Bound the memory of a chunk and the time without a suspension point when runs are tiny (512-byte
// clusters) or carry no data.
constexpr size_t kMaxRunsPerChunk = 4096;
constexpr size_t kMaxExtentsPerChunk = 8192;
// What may be shared with the source by one call. Bounded, because all of it is copied by one
// worker should the file system change its mind.
constexpr uint64_t kMaxLongRun = 256 * kMiB;

std::string status_error(uint64_t guest_offset, int code) {
  return fmt::format("error while reading block status at offset {}: {}", guest_offset,
                     errno_text(code));
}

/// What stands for a range whose status cannot be read.
ChainExtent lost_extent(uint64_t guest_offset, uint64_t length) {
  ChainExtent lost;
  lost.extent.guest_offset = guest_offset;
  lost.extent.length = length;
  lost.extent.kind = ExtentKind::kZero;
  return lost;
}

}  // namespace

uint64_t ExtentCursor::status_limit() const {
  const uint64_t limit = std::min(plan_.virtual_size - position_, kMaxStatus);
  if (!plan_.target_backing_size) return limit;
  // Zeros behind the target's backing image need no writing, those over it do.
  const uint64_t backing_end = *plan_.target_backing_size;
  return position_ < backing_end ? std::min(limit, backing_end - position_) : limit;
}

ExtentCursor::StatusKind ExtentCursor::kind_of(const ChainExtent& found) const {
  const bool is_behind_backing =
      plan_.target_backing_size && position_ >= *plan_.target_backing_size;
  const StatusKind zero = is_behind_backing ? StatusKind::kBacking : StatusKind::kZero;
  switch (found.extent.kind) {
    case ExtentKind::kZero:
      return zero;
    case ExtentKind::kData:
      return found.extent.is_zero ? zero : StatusKind::kData;
    case ExtentKind::kCompressed:
      return StatusKind::kData;
    case ExtentKind::kUnallocated:
      break;
  }
  if (!plan_.unallocated_is_backing) return zero;
  // Only the top layer was asked. Where nothing lies below it, it reads as zeros after all.
  const ConcatSource::Part& part = source_.part_at(position_);
  const std::vector<Layer>& layers = part.chain->layers();
  if (layers.size() == 1) return zero;
  const uint64_t below = round_up(layers[1].image->info().virtual_size, kSectorSize);
  return position_ - part.guest_offset >= below ? zero : StatusKind::kBacking;
}

void ExtentCursor::take_status() {
  while (mapped_[head_].extent.guest_end() <= position_) ++head_;
  const ChainExtent& found = mapped_[head_];
  const uint64_t known = std::min(found.extent.guest_end() - position_, status_limit());
  uint64_t length = round_up(known, kSectorSize);
  const ConcatSource::Part& part = source_.part_at(position_);
  const uint64_t tail = (position_ - part.guest_offset + length) % part.alignment;
  if (length > tail) length -= tail;
  status_end_ = position_ + length;
  status_kind_ = kind_of(found);
}

/// Of `length` bytes of data. A long run consists of whole runs, so that cutting it again gives the
/// boundaries there would be without it.
uint64_t ExtentCursor::max_data_run(uint64_t length) const {
  const uint64_t long_run = round_down(std::min(length, kMaxLongRun), plan_.max_run);
  return allows_long_runs_ && long_run != 0 ? long_run : std::min(length, plan_.max_run);
}

ExtentCursor::StatusRun ExtentCursor::next_run() const {
  StatusRun run{std::min(status_limit(), status_end_ - position_), status_kind_};
  if (run.kind == StatusKind::kData) run.length = max_data_run(run.length);
  if (plan_.compression) {
    const uint64_t cluster_size = plan_.compression->cluster_size;
    if (run.length < cluster_size) {
      run.length = std::min(cluster_size, plan_.virtual_size - position_);
      run.kind = StatusKind::kData;
    } else {
      run.length = round_down(run.length, cluster_size);
    }
  }
  if (!plan_.sparse && run.kind == StatusKind::kZero) {
    run.length = std::min(run.length, plan_.max_run);
    run.kind = StatusKind::kData;
  }
  return run;
}

uint64_t ExtentCursor::end_of_loss(uint64_t guest_offset) const {
  const ConcatSource::Part& part = source_.part_at(guest_offset);
  uint64_t step = 0;
  for (const Layer& layer : part.chain->layers()) {
    const uint64_t cluster_size = layer.image->info().cluster_size.value_or(0);
    if (step == 0 || (cluster_size != 0 && cluster_size < step)) step = cluster_size;
  }
  if (step == 0) step = kSectorSize;
  const uint64_t end = part.guest_offset + round_up(guest_offset - part.guest_offset + 1, step);
  return std::min(end, part.guest_end());
}

ChainExtent ExtentCursor::give_up(uint64_t guest_offset, uint64_t end, const Error& cause) {
  if (lost_end_ != guest_offset) {
    tell_loss();
    lost_begin_ = guest_offset;
  }
  lost_cause_ = cause.code();
  lost_end_ = end;
  return lost_extent(guest_offset, end - guest_offset);
}

void ExtentCursor::tell_loss() {
  const uint64_t begin = std::exchange(lost_begin_, 0);
  const uint64_t end = std::exchange(lost_end_, 0);
  if (begin == end) return;
  messages_.warning(
      fmt::format("{}, {} bytes are lost", status_error(begin, lost_cause_), end - begin));
}

Task<Result<void>> ExtentCursor::map_more() {
  while (head_ < mapped_.size() && mapped_[head_].extent.guest_end() <= position_) ++head_;
  mapped_.erase(mapped_.begin(), mapped_.begin() + static_cast<std::ptrdiff_t>(head_));
  head_ = 0;
  mapped_end_ = std::max(mapped_end_, position_);
  uint64_t wanted = std::min(source_.part_at(mapped_end_).guest_end() - mapped_end_, kMaxStatus);
  // What follows a loss is mostly lost, too.
  if (lost_end_ == mapped_end_ && lost_end_ != 0) {
    wanted = std::min(wanted, end_of_loss(mapped_end_) - mapped_end_);
  }
  for (;;) {
    Result<ChainExtents> found = co_await source_.map(mapped_end_, wanted, plan_.source_depth);
    if (found) {
      assert(!found->empty());
      const uint64_t part_end = source_.part_at(mapped_end_).guest_end();
      const uint64_t found_end = found->back().extent.guest_end();
      // An extent cut by the end of our question must be asked for again from its own begin.
      const bool is_cut = found_end == mapped_end_ + wanted && found_end < part_end;
      if (is_cut && found->size() > 1) found->pop_back();
      mapped_end_ = found->back().extent.guest_end();
      if (mapped_.empty()) {
        mapped_ = std::move(*found);
      } else {
        mapped_.insert(mapped_.end(), found->begin(), found->end());
      }
      co_return ok();
    }
    if (!plan_.salvage) {
      co_return Error(found.error().code(), status_error(mapped_end_, found.error().code()))
          .with_hint(found.error().hint());
    }
    if (wanted <= end_of_loss(mapped_end_) - mapped_end_) {
      mapped_.push_back(give_up(mapped_end_, mapped_end_ + wanted, found.error()));
      mapped_end_ = lost_end_;
      co_return ok();
    }
    wanted = std::max(round_up(div_round_up(wanted, 4), kSectorSize),
                      end_of_loss(mapped_end_) - mapped_end_);
  }
}

bool ExtentCursor::append_mapped(Chunk& chunk, uint64_t length) const {
  const uint64_t guest_end = position_ + length;
  Run run{position_, length, true, static_cast<uint32_t>(chunk.extents.size()), 0};
  for (size_t i = head_; i < mapped_.size(); ++i) {
    const Extent& extent = mapped_[i].extent;
    if (extent.guest_end() <= position_) continue;
    if (extent.guest_offset >= guest_end) break;
    if (extent.kind == ExtentKind::kUnallocated && plan_.unallocated_is_backing) {
      chunk.extents.resize(run.first_extent);
      return false;
    }
    chunk.extents.push_back(clip(extent, position_, guest_end));
  }
  run.extent_count = static_cast<uint32_t>(chunk.extents.size()) - run.first_extent;
  chunk.runs.push_back(run);
  chunk.data_bytes += length;
  return true;
}

Task<Result<void>> ExtentCursor::append_from_all_layers(Chunk& chunk, uint64_t length) {
  const uint64_t guest_end = position_ + length;
  Run run{position_, length, true, static_cast<uint32_t>(chunk.extents.size()), 0};
  for (uint64_t at = position_; at < guest_end;) {
    uint64_t wanted = guest_end - at;
    Result<ChainExtents> found = co_await source_.map(at, wanted, kAllLayers);
    if (!found) {
      if (!plan_.salvage) co_return read_error(position_, found.error());
      wanted = std::min(wanted, end_of_loss(at) - at);
      found = co_await source_.map(at, wanted, kAllLayers);
    }
    if (!found) found = ChainExtents{give_up(at, at + wanted, found.error())};
    for (const ChainExtent& one : *found) chunk.extents.push_back(one.extent);
    at = found->back().extent.guest_end();
  }
  run.extent_count = static_cast<uint32_t>(chunk.extents.size()) - run.first_extent;
  chunk.runs.push_back(run);
  chunk.data_bytes += length;
  co_return ok();
}

Task<Result<void>> ExtentCursor::append_data(Chunk& chunk, uint64_t length) {
  while (mapped_end_ < position_ + length) {
    CO_RETURN_IF_ERROR(co_await map_more());
  }
  if (append_mapped(chunk, length)) co_return ok();
  CO_RETURN_IF_ERROR(co_await append_from_all_layers(chunk, length));
  co_return ok();
}

Task<Result<bool>> ExtentCursor::next_chunk(Chunk& chunk) {
  chunk.clear();
  chunk.guest_offset = position_;
  while (position_ < plan_.virtual_size) {
    if (!has_status()) {
      if (mapped_end_ <= position_) CO_RETURN_IF_ERROR(co_await map_more());
      take_status();
    }
    const StatusRun run = next_run();
    if (run.kind == StatusKind::kData) {
      const uint64_t data_bytes = chunk.data_bytes + run.length;
      if (chunk.data_bytes > 0 && data_bytes > plan_.chunk_capacity) break;
      CO_RETURN_IF_ERROR(co_await append_data(chunk, run.length));
    } else if (run.kind == StatusKind::kZero && plan_.zero_action == ZeroAction::kWriteZeroes) {
      chunk.runs.push_back({position_, run.length, false, 0, 0});
    }
    position_ += run.length;
    chunk.advance += run.length;
    const bool is_full = chunk.runs.size() >= kMaxRunsPerChunk ||
                         chunk.extents.size() >= kMaxExtentsPerChunk ||
                         chunk.data_bytes >= plan_.chunk_goal;
    if (is_full) break;
  }
  if (position_ == plan_.virtual_size) tell_loss();
  if (chunk.advance == 0) co_return false;
  chunk.ticket = next_ticket_++;
  co_return true;
}

}  // namespace imgconv
