// CopyWitness: sees the disk's bytes of a copy as they pass from source to target, for --digest and
// --verify.
//
// Digests are sequential, so chunks are fed in their order, whatever order workers have them in: a
// worker keeps its chunk until its turn, which bounds the memory to the workers' buffers. What
// --verify compares is hashed chunk by chunk, at the same time. Loop thread only; the hashing runs
// on the pool, in jobs that are bounded even where a chunk is a terabyte of zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/chunk.h"
#include "engine/chunk_reader.h"
#include "engine/message_digest.h"
#include "engine/turnstile.h"
#include "loop/executor.h"
#include "loop/result.h"
#include "loop/task.h"

namespace imgconv {

/// A range of the disk and its ContentHash.
struct ContentRecord {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  std::vector<std::byte> hash;
};

class CopyWitness {
 public:
  /// `keeps_records`: for --verify. The algorithms are those of MessageDigest.
  static Result<std::unique_ptr<CopyWitness>> make(const std::vector<std::string>& algorithms,
                                                   bool keeps_records);

  /// Called for each chunk when it was read. `gaps_are_zeros`: what lies between its runs is zeros
  /// on the target, not something that shows through. Arguments must outlive the task.
  Task<Result<void>> see(const Chunk& chunk, const ChunkReader& reader, bool gaps_are_zeros,
                         Executor& executor);
  /// Lets nobody wait any more: the copy has failed.
  void stop() { turnstile_.stop(); }

  /// One for each algorithm, in hexadecimal. Once, after the copy.
  std::vector<std::string> finish_digests();
  /// Ascending. Once, after the copy. 32 bytes of hash and the range for about 1 MiB of data.
  std::vector<ContentRecord> take_records();

 private:
  CopyWitness(std::vector<MessageDigest> digests, bool keeps_records)
      : digests_(std::move(digests)), keeps_records_(keeps_records) {}

  Task<Result<void>> add_in_turn(const Chunk& chunk, const ChunkReader& reader, Executor& executor);

  std::vector<MessageDigest> digests_;
  const bool keeps_records_;
  Turnstile turnstile_;
  std::vector<ContentRecord> records_;
};

}  // namespace imgconv
