#include "engine/compare.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "engine/compare_job.h"
#include "loop/co_mutex.h"
#include "loop/task_group.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Enough to keep the pool busy while the next batch is being mapped.
constexpr unsigned kWorkers = 4;
/// qemu-img reads at most this much at once; the offset of a read error is that of such a read.
constexpr uint64_t kChunkBytes = 2 * kMiB;
/// One pool job: worth a trip, and small enough that four in flight are even at the end.
constexpr uint64_t kBatchBytes = 2 * kMiB;
constexpr size_t kBatchPieces = 1024;
/// Plain data is read in pieces that stay in the cache. Compressed clusters are not cut: each piece
/// would decode the cluster again.
constexpr uint64_t kPieceBytes = 128 * kKiB;
/// Ranges in which there is nothing to read count as progress at the latest after so many bytes.
constexpr uint64_t kSettleBytes = 1 * kGiB;

/// QEMU's block status flags, as far as strict mode looks at them.
struct StatusFlags {
  bool is_allocated = false;
  bool is_zero = false;
  bool is_data = false;
  bool has_offset = false;
  bool is_compressed = false;
  bool reaches_end = false;
  bool operator==(const StatusFlags&) const = default;
};

/// Walks the extents of one image.
class CompareSide {
 public:
  explicit CompareSide(ImageChain& chain) : chain_(chain), size_(chain.virtual_size()) {}

  uint64_t size() const { return size_; }
  bool is_beyond_end(uint64_t position) const { return position >= size_; }

  /// Makes extent() the one at `position`, which never goes back. Requires: inside the image.
  Task<Result<void>> seek(uint64_t position) {
    while (next_ < batch_.size() && batch_[next_].extent.guest_end() <= position) ++next_;
    if (next_ < batch_.size()) co_return ok();
    CO_ASSIGN_OR_RETURN(batch_, co_await chain_.map(position, size_ - position));
    next_ = 0;
    co_return ok();
  }
  /// True when seek() would not have to wait.
  bool has(uint64_t position) const {
    return next_ < batch_.size() && position < batch_[next_].extent.guest_end();
  }
  const Extent& extent() const { return batch_[next_].extent; }

  bool is_zero() const {
    const Extent& found = extent();
    return found.is_zero || found.kind == ExtentKind::kZero ||
           found.kind == ExtentKind::kUnallocated;
  }
  StatusFlags flags() const {
    const ChainExtent& found = batch_[next_];
    StatusFlags flags;
    // Zeros for lack of a longer backing image count as allocated, by the image that is too short.
    flags.is_allocated = found.is_present || found.depth + 1 < chain_.layers().size();
    flags.is_zero = is_zero();
    flags.is_compressed = found.extent.kind == ExtentKind::kCompressed;
    flags.is_data = found.extent.kind == ExtentKind::kData || flags.is_compressed;
    flags.has_offset = found.extent.has_host_offset && !flags.is_compressed;
    flags.reaches_end = found.extent.guest_end() == size_;
    return flags;
  }

 private:
  ImageChain& chain_;
  const uint64_t size_;
  std::vector<ChainExtent> batch_;
  size_t next_ = 0;
};

/// One comparison: workers claim batches in guest order and run them on the pool; the finding with
/// the lowest position wins, so the outcome does not depend on their timing.
class Comparison {
 public:
  Comparison(ImageChain& a, ImageChain& b, const CompareOptions& options, Executor& executor,
             Messages& messages)
      : sides_{CompareSide(a), CompareSide(b)},
        options_(options),
        executor_(executor),
        messages_(messages),
        common_size_(std::min(sides_[0].size(), sides_[1].size())),
        total_size_(std::max(sides_[0].size(), sides_[1].size())) {}

  Task<CompareOutcome> run() {
    CompareOutcome outcome;
    const bool sizes_differ = common_size_ != total_size_;
    if (options_.strict && sizes_differ) {
      outcome.verdict = CompareVerdict::kSizeMismatch;
      co_return outcome;
    }
    co_await look_at_all_before(common_size_);
    if (sizes_differ && !finding_) {
      if (options_.on_size_mismatch) options_.on_size_mismatch();
      co_await look_at_all_before(total_size_);
    }
    if (finding_) outcome = finding_->outcome;
    co_return outcome;
  }

 private:
  Task<void> look_at_all_before(uint64_t end) {
    end_ = end;
    TaskGroup workers;
    for (unsigned i = 0; i < kWorkers; ++i) workers.spawn(work());
    // Workers do not fail: what they find is in finding_.
    const Result<void> joined = co_await workers.join();
    static_cast<void>(joined);
  }

  Task<void> work() {
    CompareJob job;
    CompareBatch batch;
    bool is_last = false;
    while (!is_last) {
      batch.clear();
      CoMutex::Guard claim = co_await claim_lock_.lock();
      is_last = co_await claim_batch(batch);
      claim.unlock();
      if (!batch.pieces.empty()) {
        std::optional<CompareFinding> found =
            co_await run_on(executor_, [&job, &batch] { return job.run(batch); });
        if (found) note(std::move(*found));
      }
      done_ += batch.settled_bytes;
      if (!finding_ && batch.settled_bytes > 0) messages_.progress(done_, total_size_);
    }
  }

  void note(CompareFinding finding) {
    if (!finding_ || finding.position < finding_->position) finding_ = std::move(finding);
  }

  /// Goes on from position_ until the batch is worth a job. True when there is nothing behind it.
  Task<bool> claim_batch(CompareBatch& batch) {
    const uint64_t begin = position_;
    uint64_t bytes = 0;
    while (!finding_ && position_ < end_ && bytes < kBatchBytes &&
           batch.pieces.size() < kBatchPieces && position_ - begin < kSettleBytes) {
      for (unsigned side = 0; side < 2; ++side) {
        if (sides_[side].is_beyond_end(position_) || sides_[side].has(position_)) continue;
        const Result<void> is_mapped = co_await sides_[side].seek(position_);
        if (is_mapped) continue;
        note_status_failure(side, is_mapped.error());
        co_return true;
      }
      if (options_.strict && sides_[0].flags() != sides_[1].flags()) {
        CompareFinding finding;
        finding.position = position_;
        finding.outcome.verdict = CompareVerdict::kBlockStatusMismatch;
        finding.outcome.offset = position_;
        note(std::move(finding));
        break;
      }
      bytes += claim_step(batch);
    }
    batch.settled_bytes = position_ - begin;
    co_return finding_ || position_ == end_;
  }

  void note_status_failure(unsigned side, const Error& error) {
    CompareFinding finding;
    finding.position = position_;
    finding.outcome.verdict = CompareVerdict::kBlockStatusFailed;
    finding.outcome.offset = position_;
    finding.outcome.image = side;
    finding.outcome.reason = errno_text(error.code());
    note(std::move(finding));
  }

  /// The next range in which neither image changes its state. Returns the bytes to be looked at.
  uint64_t claim_step(CompareBatch& batch) {
    if (position_ >= chunk_end_) {
      chunk_begin_ = position_;
      chunk_end_ = end_;
      for (const CompareSide& side : sides_) {
        if (side.is_beyond_end(position_)) continue;
        chunk_end_ = std::min(chunk_end_, side.extent().guest_end());
      }
    }
    std::array<bool, 2> is_read{};
    bool is_compressed = false;
    for (size_t side = 0; side < 2; ++side) {
      is_read[side] = !sides_[side].is_beyond_end(position_) && !sides_[side].is_zero();
      is_compressed |= is_read[side] && sides_[side].extent().kind == ExtentKind::kCompressed;
    }
    if (!is_read[0] && !is_read[1]) {
      position_ = chunk_end_;
      return 0;
    }
    ComparePiece piece;
    piece.guest_offset = position_;
    piece.chunk_offset = chunk_begin_ + round_down(position_ - chunk_begin_, kChunkBytes);
    const uint64_t most = is_compressed ? kChunkBytes : kPieceBytes;
    piece.length =
        std::min({most, chunk_end_ - position_, piece.chunk_offset + kChunkBytes - position_});
    piece.is_read = is_read;
    for (size_t side = 0; side < 2; ++side) {
      if (!is_read[side]) continue;
      batch.extents[side].push_back(
          slice_extent(sides_[side].extent(), position_, position_ + piece.length));
    }
    batch.pieces.push_back(piece);
    position_ += piece.length;
    return piece.length;
  }

  std::array<CompareSide, 2> sides_;
  const CompareOptions& options_;
  Executor& executor_;
  Messages& messages_;
  const uint64_t common_size_;
  const uint64_t total_size_;

  // Protects position_, chunk_*_ and sides_ while a claim waits for a mapping.
  CoMutex claim_lock_;
  uint64_t position_ = 0;
  /// Where the workers stop.
  uint64_t end_ = 0;
  uint64_t chunk_begin_ = 0;
  uint64_t chunk_end_ = 0;
  uint64_t done_ = 0;
  std::optional<CompareFinding> finding_;
};

}  // namespace

Task<CompareOutcome> compare(ImageChain& a, ImageChain& b, const CompareOptions& options,
                             Executor& executor, Messages& messages) {
  Comparison comparison(a, b, options, executor, messages);
  CompareOutcome outcome = co_await comparison.run();
  co_return outcome;
}

}  // namespace imgconv
