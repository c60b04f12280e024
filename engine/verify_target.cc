#include "engine/verify_target.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "engine/chunk.h"
#include "engine/content_hash.h"
#include "formats/extent_io.h"
#include "loop/executor.h"
#include "loop/interrupt.h"
#include "loop/io_buffer.h"
#include "loop/task_group.h"
#include "loop/try.h"
#include "loop/units.h"

namespace imgconv {
namespace {

/// Read and hashed by one job of the pool.
constexpr uint64_t kWindowBytes = kMiB;
/// Records looked at at the same time: enough to keep a device and a few processors busy.
constexpr unsigned kReaders = 8;

bool is_zero(const Extent& extent) {
  return extent.kind == ExtentKind::kZero || extent.kind == ExtentKind::kUnallocated;
}

class Verification {
 public:
  Verification(ImageChain& chain, const std::vector<ContentRecord>& records, Executor& executor)
      : chain_(chain), records_(records), executor_(executor) {}

  Task<Result<void>> run() {
    TaskGroup group;
    for (unsigned i = 0; i < kReaders; ++i) group.spawn(check_records());
    CO_RETURN_IF_ERROR(co_await group.join());
    co_return ok();
  }

 private:
  /// A range of whole sectors that is read at once.
  struct Window {
    uint64_t guest_begin = 0;
    uint64_t guest_end = 0;
    ExtentList extents;

    /// Appends what there is room for. Zeros in front are left out: the window begins behind them.
    void take(const Extent& extent) {
      const uint64_t zeros_end = round_down(extent.guest_end(), kSectorSize);
      if (extents.empty() && is_zero(extent) && zeros_end > guest_end) {
        guest_begin = guest_end = zeros_end;
        return;
      }
      const uint64_t part_end = std::min(extent.guest_end(), guest_begin + kWindowBytes);
      extents.push_back(clip(extent, guest_end, part_end));
      guest_end = part_end;
    }
  };

  Task<Result<void>> check_records() {
    CO_ASSIGN_OR_RETURN(ContentHash hash, ContentHash::make());
    IoBuffer buffer(kWindowBytes);
    while (next_ < records_.size() && !has_failed_) {
      if (InterruptGuard::is_pending()) co_return Error::from_errno(EINTR);
      const ContentRecord& record = records_[next_++];
      const Result<void> read = co_await read_record(record, hash, buffer.span());
      const bool is_same = read && hash.finish() == record.hash;
      if (is_same) continue;
      has_failed_ = true;
      co_return Error(
          EIO, fmt::format("verification failed at byte {}: {}", record.guest_offset,
                           read ? fmt::format("{} bytes are not what was written", record.length)
                                : read.error().text()));
    }
    co_return ok();
  }

  /// Feeds the hash with everything in the record's range that is not known to be zeros.
  Task<Result<void>> read_record(const ContentRecord& record, ContentHash& hash,
                                 std::span<std::byte> buffer) {
    const uint64_t end = record.guest_offset + record.length;
    Window window{record.guest_offset, record.guest_offset, {}};
    while (window.guest_end < end) {
      CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> found,
                          co_await chain_.map(window.guest_end, end - window.guest_end));
      for (const ChainExtent& one : found) {
        while (window.guest_end < one.extent.guest_end()) {
          const bool ends_window = is_zero(one.extent) && is_aligned(window.guest_end, kSectorSize);
          if (ends_window || window.guest_end == window.guest_begin + kWindowBytes) {
            CO_RETURN_IF_ERROR(co_await read_window(window, hash, buffer));
          }
          window.take(one.extent);
        }
      }
    }
    CO_RETURN_IF_ERROR(co_await read_window(window, hash, buffer));
    co_return ok();
  }

  /// The window is empty afterwards, and begins where it ended.
  Task<Result<void>> read_window(Window& window, ContentHash& hash, std::span<std::byte> buffer) {
    if (!window.extents.empty()) {
      const auto read_and_hash = [&window, &hash, buffer]() -> Result<void> {
        const auto bytes = buffer.first(window.guest_end - window.guest_begin);
        RETURN_IF_ERROR(read_extents(window.extents, bytes, FileEnd::kError));
        hash.add(window.guest_begin, bytes);
        return ok();
      };
      CO_RETURN_IF_ERROR(co_await run_on(executor_, read_and_hash));
    }
    window.extents.clear();
    window.guest_begin = window.guest_end;
    co_return ok();
  }

  ImageChain& chain_;
  const std::vector<ContentRecord>& records_;
  Executor& executor_;
  size_t next_ = 0;
  bool has_failed_ = false;
};

}  // namespace

Task<Result<void>> verify_target(Storage& storage, ImageChain& target, const ImageRequest& request,
                                 const std::vector<ContentRecord>& records, Messages& messages) {
  for (const File* const file : target.top().files()) {
    CO_RETURN_IF_ERROR(storage.drop_from_cache(file->name()));
  }
  CO_ASSIGN_OR_RETURN(const std::unique_ptr<ImageChain> chain,
                      co_await open_image(storage, request, messages));
  Verification verification(*chain, records, storage.executor());
  Result<void> verified = co_await verification.run();
  const Result<void> closed = co_await chain->close();
  if (!verified) co_return std::move(verified).error().within(request.name);
  if (!closed) co_return Error(closed.error()).within(request.name);
  co_return ok();
}

}  // namespace imgconv
