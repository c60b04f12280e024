#include "engine/bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "engine/guest_write.h"
#include "formats/extent_io.h"
#include "loop/io_buffer.h"
#include "loop/task_group.h"
#include "loop/try.h"

namespace imgconv {
namespace {

class Bench {
 public:
  Bench(ImageChain& chain, const BenchOptions& options, Executor& executor)
      : chain_(chain),
        options_(options),
        executor_(executor),
        size_(chain.virtual_size()),
        offset_(options.offset) {}

  Task<Result<void>> run() {
    const bool drains = options_.flush_interval != 0 && options_.drains_before_flush;
    while (sent_ < options_.count) {
      batch_end_ = options_.count;
      if (drains) batch_end_ = std::min(options_.count - sent_, options_.flush_interval) + sent_;
      CO_RETURN_IF_ERROR(co_await run_batch());
      const bool is_full = sent_ % std::max(options_.flush_interval, 1U) == 0;
      if (drains && is_full) {
        CO_RETURN_IF_ERROR(co_await chain_.top().flush(true));
      }
    }
    co_return ok();
  }

 private:
  Task<Result<void>> run_batch() {
    TaskGroup group;
    const uint32_t workers = std::min(options_.depth, batch_end_ - sent_);
    for (uint32_t i = 0; i < workers; ++i) group.spawn(work());
    CO_RETURN_IF_ERROR(co_await group.join());
    co_return ok();
  }

  Task<Result<void>> work() {
    IoBuffer buffer(options_.request_size);
    std::memset(buffer.data(), options_.pattern, buffer.size());
    while (sent_ < batch_end_ && !has_failed_) {
      const uint64_t guest_offset = offset_;
      offset_ = size_ == 0 ? 0 : (offset_ + options_.step_size()) % size_;
      ++sent_;
      const bool flushes = !options_.drains_before_flush && options_.flush_interval != 0 &&
                           sent_ % options_.flush_interval == 0;
      Result<void> done = co_await send(guest_offset, buffer.span());
      if (done && flushes) done = co_await chain_.top().flush(true);
      if (!done) {
        has_failed_ = true;
        co_return done;
      }
    }
    co_return ok();
  }

  Task<Result<void>> send(uint64_t guest_offset, std::span<std::byte> buffer) {
    if (buffer.size() > size_ || guest_offset > size_ - buffer.size()) {
      co_return Error::from_errno(EIO);
    }
    if (options_.is_write) {
      CO_RETURN_IF_ERROR(co_await write_guest(chain_.top(), guest_offset, buffer));
    } else {
      CO_RETURN_IF_ERROR(co_await read(guest_offset, buffer));
    }
    co_return ok();
  }

  /// Plain data through the file itself, so that what is measured is the file's own way of reading.
  Task<Result<void>> read(uint64_t guest_offset, std::span<std::byte> buffer) {
    while (!buffer.empty()) {
      CO_ASSIGN_OR_RETURN(const std::vector<ChainExtent> found,
                          co_await chain_.map(guest_offset, buffer.size()));
      for (const ChainExtent& piece : found) {
        const Extent& extent = piece.extent;
        const std::span<std::byte> part = buffer.first(extent.length);
        if (extent.kind == ExtentKind::kData) {
          CO_ASSIGN_OR_RETURN(const size_t filled,
                              co_await extent.file->read(extent.host_offset, part));
          std::fill(part.begin() + static_cast<ptrdiff_t>(filled), part.end(), std::byte{0});
        } else if (extent.kind == ExtentKind::kCompressed) {
          const auto decode = [&extent, part] { return read_extents(std::span(&extent, 1), part); };
          CO_RETURN_IF_ERROR(co_await run_on(executor_, decode));
        } else {
          std::fill(part.begin(), part.end(), std::byte{0});
        }
        buffer = buffer.subspan(part.size());
        guest_offset += part.size();
      }
    }
    co_return ok();
  }

  ImageChain& chain_;
  const BenchOptions& options_;
  Executor& executor_;
  const uint64_t size_;
  /// Of the next request.
  uint64_t offset_;
  uint32_t sent_ = 0;
  /// Requests up to here may be sent before the next flush.
  uint32_t batch_end_ = 0;
  bool has_failed_ = false;
};

}  // namespace

Task<Result<void>> bench(ImageChain& chain, const BenchOptions& options, Executor& executor) {
  Bench run(chain, options, executor);
  const Result<void> done = co_await run.run();
  if (done) co_return ok();
  const int code = done.error().code();
  co_return Error(code, fmt::format("Failed request: {}", errno_text(code)));
}

}  // namespace imgconv
