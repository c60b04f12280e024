#include "engine/worker.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/copy_job.h"
#include "formats/extent_io.h"
#include "loop/executor.h"
#include "loop/try.h"

namespace imgconv {

Worker::Worker(CopyJob& job) : job_(job), reader_(job.plan()) {}

Task<void> Worker::run() {
  while (!job_.has_failed()) {
    Result<bool> claimed = co_await job_.claim(chunk_);
    if (!claimed) {
      job_.fail(std::move(claimed).error());
      co_return;
    }
    if (!*claimed) co_return;
    Result<void> copied = co_await copy_chunk();
    if (!copied) {
      job_.fail(std::move(copied).error());
      co_return;
    }
    job_.finish(chunk_);
  }
}

Task<Result<void>> Worker::copy_chunk() {
  if (job_.plan().step == CopyStep::kFused) {
    if (chunk_.runs.empty()) co_return ok();
    CO_RETURN_IF_ERROR(co_await copy_fused());
    co_return ok();
  }
  if (!chunk_.runs.empty()) CO_RETURN_IF_ERROR(co_await read());
  if (CopyWitness* const witness = job_.witness()) {
    const bool gaps_are_zeros = !job_.plan().unallocated_is_backing;
    CO_RETURN_IF_ERROR(co_await witness->see(chunk_, reader_, gaps_are_zeros, job_.executor()));
  }
  writes_.clear();
  if (job_.identity()) {
    CO_RETURN_IF_ERROR(co_await write_identity());
  } else {
    CO_RETURN_IF_ERROR(co_await write_mapped());
  }
  co_return ok();
}

Task<Result<void>> Worker::copy_fused() {
  const HostRun& place = *job_.identity();
  const auto work = [this, &place]() -> Result<void> {
    Result<void> outcome = reader_.copy(chunk_, place.file->blocking(), place.host_offset);
    reader_.release_buffers();
    return outcome;
  };
  CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), work));
  co_return ok();
}

Task<Result<void>> Worker::read() {
  const auto read_all = [this] { return reader_.read(chunk_); };
  if (!job_.plan().reads_async) {
    CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), read_all));
    co_return ok();
  }
  Result<void> outcome = co_await read_async();
  if (!outcome) {
    if (!job_.plan().salvage) co_return outcome;
    CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), read_all));
    co_return ok();
  }
  const auto split = [this]() -> Result<void> {
    reader_.split(chunk_);
    return ok();
  };
  CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), split));
  co_return ok();
}

Task<Result<void>> Worker::read_async() {
  std::span<std::byte> buffer = reader_.make_buffer();
  for (const Run& run : chunk_.runs) {
    if (!run.is_data) continue;
    for (const Extent& extent : chunk_.extents_of(run)) {
      const Result<void> outcome = co_await read_extent_async(extent, buffer.first(extent.length));
      if (!outcome) co_return read_error(run.guest_offset, outcome.error());
      buffer = buffer.subspan(extent.length);
    }
  }
  co_return ok();
}

Task<Result<void>> Worker::read_extent_async(const Extent& extent, std::span<std::byte> buffer) {
  if (extent.kind == ExtentKind::kData) {
    CO_ASSIGN_OR_RETURN(const size_t length,
                        co_await extent.file->read(extent.host_offset, buffer));
    if (length == buffer.size()) co_return ok();
    CO_ASSIGN_OR_RETURN(const FileStat stat, extent.file->stat());
    CO_RETURN_IF_ERROR(check_file_end(extent, stat.length));
    // The rest of the last cluster or sector, which the file need not have.
    std::fill(buffer.begin() + static_cast<std::ptrdiff_t>(length), buffer.end(), std::byte{0});
    co_return ok();
  }
  const auto decode = [&extent, buffer] {
    return read_extents(std::span(&extent, 1), buffer, FileEnd::kError);
  };
  CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), decode));
  co_return ok();
}

Task<Result<void>> Worker::write_identity() {
  const HostRun& place = *job_.identity();
  if (reader_.may_clone() && !chunk_.runs.empty()) {
    const auto clone = [this, &place]() -> Result<void> {
      reader_.clone_runs(chunk_, place.file->blocking(), place.host_offset);
      return ok();
    };
    CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), clone));
  }
  for (const Piece& piece : chunk_.pieces) {
    if (piece.kind == PieceKind::kZero) continue;
    const uint64_t host_offset = place.host_offset + piece.guest_offset;
    add_write({place.file, host_offset, piece.guest_offset, reader_.bytes_of(piece)});
  }
  CO_RETURN_IF_ERROR(co_await write());
  for (const Piece& piece : chunk_.pieces) {
    if (piece.kind != PieceKind::kZero) continue;
    const ZeroFlags flags{.may_unmap = job_.plan().zeroes_may_unmap, .no_fallback = false};
    const Result<void> outcome = co_await place.file->write_zeroes(
        place.host_offset + piece.guest_offset, piece.length, flags);
    if (!outcome) co_return write_error(piece.guest_offset, outcome.error());
  }
  co_return ok();
}

Task<Result<void>> Worker::write_mapped() {
  const bool may_go_on = co_await job_.turnstile().enter(chunk_.ticket);
  if (!may_go_on) co_return ok();
  CO_RETURN_IF_ERROR(co_await reserve());
  const bool keeps_turn = job_.plan().links_in_turn;
  if (!keeps_turn) job_.turnstile().pass();
  CO_RETURN_IF_ERROR(co_await write());
  CO_RETURN_IF_ERROR(co_await link());
  // When the data around them is in place, and before anybody else touches a cluster that both
  // share.
  if (job_.plan().zero_action == ZeroAction::kWriteZeroes) {
    CO_RETURN_IF_ERROR(co_await write_zero_pieces());
  }
  if (keeps_turn) job_.turnstile().pass();
  co_return ok();
}

Task<Result<void>> Worker::reserve() {
  for (const Piece& piece : chunk_.pieces) {
    if (piece.kind == PieceKind::kZero) continue;
    const Result<void> outcome = co_await reserve_piece(piece);
    if (!outcome) co_return write_error(piece.guest_offset, outcome.error());
  }
  co_return ok();
}

Task<Result<void>> Worker::reserve_piece(const Piece& piece) {
  const std::span<const std::byte> bytes = reader_.bytes_of(piece);
  if (piece.kind == PieceKind::kCompressed) {
    CO_ASSIGN_OR_RETURN(const HostRun run, co_await job_.target().reserve_compressed(
                                               piece.guest_offset, piece.packed_length));
    add_write({run.file, run.host_offset, piece.guest_offset, bytes});
    co_return ok();
  }
  CO_ASSIGN_OR_RETURN(const std::vector<HostRun> runs,
                      co_await job_.target().reserve(piece.guest_offset, piece.length));
  for (const HostRun& run : runs) {
    const uint64_t offset_in_piece = run.guest_offset - piece.guest_offset;
    add_write(
        {run.file, run.host_offset, run.guest_offset, bytes.subspan(offset_in_piece, run.length)});
  }
  co_return ok();
}

/// Appends, or extends the write before it when both sides go on where it ends.
void Worker::add_write(const HostWrite& write) {
  chunk_.bytes_written += write.data.size();
  if (!writes_.empty()) {
    HostWrite& last = writes_.back();
    if (last.file == write.file && last.host_offset + last.data.size() == write.host_offset &&
        last.data.data() + last.data.size() == write.data.data()) {
      last.data = {last.data.data(), last.data.size() + write.data.size()};
      return;
    }
  }
  writes_.push_back(write);
}

Task<Result<void>> Worker::write() {
  if (job_.plan().writes_async) {
    for (const HostWrite& write : writes_) {
      const Result<void> outcome = co_await write.file->write(write.host_offset, write.data);
      if (!outcome) co_return write_error(write.guest_offset, outcome.error());
    }
    reader_.release_buffers();
    co_return ok();
  }
  if (writes_.empty()) co_return ok();
  const auto write_all = [this]() -> Result<void> {
    for (const HostWrite& write : writes_) {
      const Result<void> outcome = write.file->blocking().write(write.host_offset, write.data);
      if (!outcome) return write_error(write.guest_offset, outcome.error());
    }
    reader_.release_buffers();
    return ok();
  };
  CO_RETURN_IF_ERROR(co_await run_on(job_.executor(), write_all));
  co_return ok();
}

Task<Result<void>> Worker::link() {
  for (const Piece& piece : chunk_.pieces) {
    if (piece.kind == PieceKind::kZero) continue;
    const Result<void> outcome = co_await job_.target().link(piece.guest_offset, piece.length);
    if (!outcome) co_return write_error(piece.guest_offset, outcome.error());
  }
  co_return ok();
}

Task<Result<void>> Worker::write_zero_pieces() {
  for (const Piece& piece : chunk_.pieces) {
    if (piece.kind != PieceKind::kZero) continue;
    const Result<void> outcome = co_await job_.target().write_zeroes(
        piece.guest_offset, piece.length, job_.plan().zeroes_may_unmap);
    if (!outcome) co_return write_error(piece.guest_offset, outcome.error());
  }
  co_return ok();
}

}  // namespace imgconv
