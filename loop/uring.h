// Uring: one io_uring for one loop. Requests gather in user memory and are submitted with a single
// system call before the loop sleeps; completions are read from shared memory in each round.
//
// Whether there is a ring at all is a question of the kernel and of the sandbox, asked at run time
// by create(). Knows descriptors and memory, not files: short transfers and retries are
// UringFile's. Loop thread only.
#pragma once

#include <liburing.h>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "loop/aio_context.h"
#include "loop/result.h"

namespace imgconv {

class Uring final : public EventSource {
 public:
  /// Fails with the text that follows "io_uring is not available: ". Borrows the loop.
  static Result<std::unique_ptr<Uring>> create(AioContext& loop);
  /// Requires: nothing is in flight.
  ~Uring() override;

  /// One request; lives in the frame of the coroutine that awaits it.
  class [[nodiscard]] Request {
   public:
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter);
    /// Bytes transferred, or a negative errno value. -ENOSYS: the kernel serves this ring no more.
    int await_resume() const noexcept { return result_; }

   private:
    friend class Uring;
    enum class Operation : uint8_t { kRead, kWrite, kDataSync };
    Request(Uring& ring, Operation operation, int descriptor, uint64_t host_offset, void* memory,
            size_t length)
        : ring_(ring),
          operation_(operation),
          descriptor_(descriptor),
          host_offset_(host_offset),
          memory_(memory),
          length_(length) {}

    void fill(io_uring_sqe& entry);

    Uring& ring_;
    const Operation operation_;
    const int descriptor_;
    const uint64_t host_offset_;
    void* const memory_;
    const size_t length_;
    int result_ = 0;
    std::coroutine_handle<> waiter_;
    Request* next_ = nullptr;
  };

  /// co_await these. A request transfers at most kMaxTransfer bytes; the rest is up to the caller.
  Request read(int descriptor, uint64_t host_offset, std::span<std::byte> buffer);
  Request write(int descriptor, uint64_t host_offset, std::span<const std::byte> data);
  Request data_sync(int descriptor);

  /// The kernel's own limit of one transfer, rounded down to a power of two.
  static constexpr size_t kMaxTransfer = size_t{1} << 30;

  // EventSource:
  int descriptor() const override { return ring_.ring_fd; }
  void prepare() override;
  bool has_ready() const override;
  bool dispatch(bool is_readable) override;

  /// System calls made to submit, for tests of the batching.
  uint64_t submissions() const { return submissions_; }

 private:
  explicit Uring(AioContext& loop) : loop_(loop) {}

  void enqueue(Request& request);
  Request* pop();

  AioContext& loop_;
  io_uring ring_{};
  bool is_open_ = false;
  // What the kernel has not taken yet, oldest first. The first unsubmitted_ of them have an entry
  // in the ring; the others, from unfilled_ on, wait for a free place.
  Request* head_ = nullptr;
  Request* tail_ = nullptr;
  Request* unfilled_ = nullptr;
  // Entries and requests that the kernel has not finished. Together below the size of the
  // completion queue, so completions never overflow it.
  unsigned unsubmitted_ = 0;
  unsigned in_flight_ = 0;
  // The kernel has refused to take anything for good, as when a sandbox closed later.
  bool is_refused_ = false;
  uint64_t submissions_ = 0;
};

}  // namespace imgconv
