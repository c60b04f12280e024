// ChunkReader: the part of the copy that runs on a pool thread. Reads the runs of a chunk, decodes
// them, finds the zeros, compresses, and in the fused step writes as well.
//
// Uses blocking calls and touches nothing but the chunk, the buffers and the target file it was
// handed. Each worker has one, used by one thread at a time; it keeps scratch memory between
// chunks. Errors carry the complete text, with the guest offset.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/chunk.h"
#include "engine/plan.h"
#include "engine/sparse_split.h"
#include "loop/blocking_file.h"
#include "loop/io_buffer.h"
#include "loop/result.h"

namespace imgconv {

/// The two errors of a copy: "error while reading at byte N: ...".
Error read_error(uint64_t guest_offset, const Error& cause);
Error write_error(uint64_t guest_offset, const Error& cause);

class ChunkReader {
 public:
  /// `plan` must outlive the reader.
  explicit ChunkReader(const ConvertPlan& plan) : plan_(plan) {}

  /// Fused step: reads, splits and writes; guest offset G goes to host_base + G of `target`.
  Result<void> copy(Chunk& chunk, BlockingFile& target, uint64_t host_base);

  /// First trip: reads all runs, then as split().
  Result<void> read(Chunk& chunk);
  /// The second half of the first trip, for bytes that are in the buffer already: fills
  /// chunk.pieces, compressing what is to be compressed.
  void split(Chunk& chunk);

  /// Between the trips: shares runs with the source where the file system can (E15). What was
  /// shared is not in chunk.pieces any more.
  void clone_runs(Chunk& chunk, BlockingFile& target, uint64_t host_base);
  /// Until the kernel says that it cannot.
  bool may_clone() const { return plan_.clone && can_clone_; }

  /// Memory for the data of one chunk: plan.chunk_capacity bytes.
  std::span<std::byte> make_buffer() { return make_buffer(plan_.chunk_capacity); }
  std::span<const std::byte> bytes_of(const Piece& piece) const;
  /// What was read, the data runs of the chunk one behind the other.
  std::span<const std::byte> data_bytes(uint64_t buffer_offset, uint64_t length) const {
    return buffer_.span().subspan(buffer_offset, length);
  }
  /// Gives the buffers back, for other chunks on this thread.
  void release_buffers();

 private:
  /// Runs [first, end) that are read by one call.
  struct Group {
    size_t first = 0;
    size_t end = 0;
    uint64_t bytes = 0;
  };
  std::span<std::byte> make_buffer(uint64_t size);
  /// `host_base`: nothing if no run will be cloned.
  Group next_group(const Chunk& chunk, size_t first, std::optional<uint64_t> host_base) const;
  Result<void> read_group(Chunk& chunk, const Group& group, std::span<std::byte> buffer) const;
  Result<void> read_and_split(Chunk& chunk, const Group& group);
  Result<void> read_singly(Chunk& chunk, const Group& group, std::span<std::byte> buffer) const;
  void rescue(Chunk& chunk, const Run& run, std::span<std::byte> buffer) const;

  void split_run(Chunk& chunk, const Run& run, uint64_t buffer_offset);
  /// As split_run(), when bitmap_ is known.
  void split_scanned(Chunk& chunk, const Run& run, uint64_t buffer_offset);
  void cut_long_run(Chunk& chunk, size_t index);
  bool can_stream(const Chunk& chunk, const Run& run) const;
  Result<void> stream_run(Chunk& chunk, const Run& run, BlockingFile& target, uint64_t host_base);
  void take_block_extents(const Chunk& chunk, const Run& run, uint64_t begin, uint64_t end);
  void compress_run(Chunk& chunk, const Run& run, uint64_t buffer_offset);
  /// Tries to let the kernel copy the run, or share it; false: nobody did.
  bool offload(Chunk& chunk, const Run& run, BlockingFile& target, uint64_t host_base);
  bool clone(Chunk& chunk, const Run& run, BlockingFile& target, uint64_t host_base);
  void add_zero(Chunk& chunk, uint64_t guest_offset, uint64_t length) const;
  void add_data(Chunk& chunk, uint64_t guest_offset, uint64_t length, uint64_t buffer_offset) const;
  void add_split(Chunk& chunk, uint64_t run_begin, uint64_t buffer_begin);
  Result<void> write_pieces(Chunk& chunk, BlockingFile& target, uint64_t host_base);

  const ConvertPlan& plan_;
  IoBuffer buffer_;
  IoBuffer packed_;
  uint64_t packed_used_ = 0;
  /// Until the kernel says that it cannot.
  bool can_copy_range_ = true;
  bool can_clone_ = true;
  std::vector<uint64_t> bitmap_;
  std::vector<SparsePiece> split_;
  ExtentList block_extents_;
  std::vector<FileWrite> writes_;
};

}  // namespace imgconv
