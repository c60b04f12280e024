// Worker: one coroutine that copies chunk after chunk until there are none.
//
// claim -> read -> turn -> reserve -> write -> link, or one pool job for all of it (the fused
// step). The plan says which; there is no policy here. Owns its chunk and buffers; everything
// shared is in CopyJob. Loop thread only, but for the functions of ChunkReader, which run on the
// pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/chunk.h"
#include "engine/chunk_reader.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

class CopyJob;

class Worker {
 public:
  /// `job` must outlive the worker.
  explicit Worker(CopyJob& job);

  /// Returns when nothing is left or the job has failed; the error is in the job.
  Task<void> run();

 private:
  /// Bytes in memory and where they go.
  struct HostWrite {
    File* file = nullptr;
    uint64_t host_offset = 0;
    uint64_t guest_offset = 0;
    std::span<const std::byte> data;
  };

  Task<Result<void>> copy_chunk();
  Task<Result<void>> copy_fused();
  Task<Result<void>> read();
  Task<Result<void>> read_async();
  Task<Result<void>> read_extent_async(const Extent& extent, std::span<std::byte> buffer);

  Task<Result<void>> write_mapped();
  Task<Result<void>> write_identity();
  /// Reserves space for the pieces of data, in guest order.
  Task<Result<void>> reserve();
  Task<Result<void>> reserve_piece(const Piece& piece);
  Task<Result<void>> write();
  Task<Result<void>> link();
  Task<Result<void>> write_zero_pieces();
  void add_write(const HostWrite& write);

  CopyJob& job_;
  Chunk chunk_;
  ChunkReader reader_;
  std::vector<HostWrite> writes_;
};

}  // namespace imgconv
