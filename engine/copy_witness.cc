#include "engine/copy_witness.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <optional>
#include <utility>

#include "engine/content_hash.h"
#include "loop/interrupt.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Zeros are hashed in jobs of this size: a tenth of a second, after which a signal or an error of
/// another worker is noticed.
constexpr uint64_t kMaxZerosPerJob = 128 * kMiB;

/// Bytes of a chunk, or so many zeros.
struct Stretch {
  uint64_t guest_offset = 0;
  uint64_t length = 0;
  /// Empty: zeros.
  std::span<const std::byte> bytes;
};

/// The whole range of a chunk, ascending.
std::vector<Stretch> stretches_of(const Chunk& chunk, const ChunkReader& reader) {
  std::vector<Stretch> stretches;
  uint64_t at = chunk.guest_offset;
  uint64_t buffer_offset = 0;
  const auto add_zeros_up_to = [&](uint64_t end) {
    while (at < end) {
      const uint64_t length = std::min(end - at, kMaxZerosPerJob);
      stretches.push_back({at, length, {}});
      at += length;
    }
  };
  for (const Run& run : chunk.runs) {
    if (!run.is_data) continue;
    add_zeros_up_to(run.guest_offset);
    stretches.push_back({at, run.length, reader.data_bytes(buffer_offset, run.length)});
    buffer_offset += run.length;
    at = run.guest_end();
  }
  add_zeros_up_to(chunk.guest_offset + chunk.advance);
  return stretches;
}

/// The ranges of a chunk that the target holds itself, each as a record without its hash.
std::vector<ContentRecord> record_ranges(const Chunk& chunk, bool gaps_are_zeros) {
  if (gaps_are_zeros) return {{chunk.guest_offset, chunk.advance, {}}};
  std::vector<ContentRecord> ranges;
  for (const Run& run : chunk.runs) {
    if (!ranges.empty() && ranges.back().guest_offset + ranges.back().length == run.guest_offset) {
      ranges.back().length += run.length;
    } else {
      ranges.push_back({run.guest_offset, run.length, {}});
    }
  }
  return ranges;
}

Result<std::vector<ContentRecord>> hash_records(std::vector<ContentRecord> ranges,
                                                std::span<const Stretch> stretches) {
  ASSIGN_OR_RETURN(ContentHash hash, ContentHash::make());
  for (ContentRecord& record : ranges) {
    for (const Stretch& stretch : stretches) {
      const bool is_inside = stretch.guest_offset >= record.guest_offset &&
                             stretch.guest_offset < record.guest_offset + record.length;
      if (is_inside && !stretch.bytes.empty()) hash.add(stretch.guest_offset, stretch.bytes);
    }
    record.hash = hash.finish();
  }
  return ranges;
}

}  // namespace

Result<std::unique_ptr<CopyWitness>> CopyWitness::make(const std::vector<std::string>& algorithms,
                                                       bool keeps_records) {
  std::vector<MessageDigest> digests;
  for (const std::string& algorithm : algorithms) {
    ASSIGN_OR_RETURN(MessageDigest digest, MessageDigest::make(algorithm));
    digests.push_back(std::move(digest));
  }
  // Loads the library on this thread.
  if (keeps_records) RETURN_IF_ERROR(ContentHash::make());
  return std::unique_ptr<CopyWitness>(new CopyWitness(std::move(digests), keeps_records));
}

Task<Result<void>> CopyWitness::see(const Chunk& chunk, const ChunkReader& reader,
                                    bool gaps_are_zeros, Executor& executor) {
  if (keeps_records_ && chunk.advance > 0) {
    const auto hash_all = [&chunk, &reader, gaps_are_zeros] {
      return hash_records(record_ranges(chunk, gaps_are_zeros), stretches_of(chunk, reader));
    };
    CO_ASSIGN_OR_RETURN(const std::vector<ContentRecord> records,
                        co_await run_on(executor, hash_all));
    records_.insert(records_.end(), records.begin(), records.end());
  }
  if (!digests_.empty()) CO_RETURN_IF_ERROR(co_await add_in_turn(chunk, reader, executor));
  co_return ok();
}

Task<Result<void>> CopyWitness::add_in_turn(const Chunk& chunk, const ChunkReader& reader,
                                            Executor& executor) {
  const bool may_go_on = co_await turnstile_.enter(chunk.ticket);
  if (!may_go_on) co_return ok();
  const std::vector<Stretch> stretches = stretches_of(chunk, reader);
  for (size_t next = 0; next < stretches.size() && !turnstile_.is_stopped();) {
    if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
    const auto add_some = [this, &stretches, next]() -> Result<size_t> {
      size_t at = next;
      for (uint64_t zeros = 0; at < stretches.size() && zeros < kMaxZerosPerJob; ++at) {
        const Stretch& stretch = stretches[at];
        if (stretch.bytes.empty()) zeros += stretch.length;
        for (MessageDigest& digest : digests_) {
          stretch.bytes.empty() ? digest.add_zeros(stretch.length) : digest.add(stretch.bytes);
        }
      }
      return at;
    };
    CO_ASSIGN_OR_RETURN(next, co_await run_on(executor, add_some));
  }
  turnstile_.pass();
  co_return ok();
}

std::vector<std::string> CopyWitness::finish_digests() {
  std::vector<std::string> values;
  for (MessageDigest& digest : digests_) values.push_back(to_hex(digest.finish()));
  return values;
}

std::vector<ContentRecord> CopyWitness::take_records() {
  std::sort(records_.begin(), records_.end(), [](const ContentRecord& a, const ContentRecord& b) {
    return a.guest_offset < b.guest_offset;
  });
  return std::exchange(records_, {});
}

}  // namespace imgconv
