#include "loop/uring.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "loop/error.h"

namespace imgconv {
namespace {

// More than any number of workers keeps in flight; the rest waits in our own queue.
constexpr unsigned kDepth = 128;

/// Linux 5.6 has all we use; older rings lack plain reads and writes.
int check_operations(io_uring& ring) {
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return ENOSYS;
  const bool has_all = io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
                       io_uring_opcode_supported(probe, IORING_OP_WRITE) != 0 &&
                       io_uring_opcode_supported(probe, IORING_OP_FSYNC) != 0;
  io_uring_free_probe(probe);
  return has_all ? 0 : ENOSYS;
}

/// A sandbox may let a process make a ring and refuse to serve it.
int check_submission(io_uring& ring) {
  io_uring_sqe* const entry = io_uring_get_sqe(&ring);
  if (entry == nullptr) return EIO;
  io_uring_prep_nop(entry);
  int status = io_uring_submit(&ring);
  if (status < 0) return -status;
  io_uring_cqe* completion = nullptr;
  do {
    status = io_uring_wait_cqe(&ring, &completion);
  } while (status == -EINTR);
  if (status < 0) return -status;
  io_uring_cqe_seen(&ring, completion);
  return 0;
}

/// The kernel took nothing, and will another time.
bool is_passing(int error) { return error == EINTR || error == EAGAIN || error == EBUSY; }

}  // namespace

Result<std::unique_ptr<Uring>> Uring::create(AioContext& loop) {
  std::unique_ptr<Uring> ring(new Uring(loop));
  // ENOSYS: old kernel. EPERM: the sandbox or the administrator forbids it.
  const int status = io_uring_queue_init(kDepth, &ring->ring_, 0);
  if (status < 0) return Error::from_errno(-status);
  ring->is_open_ = true;
  // Now, as the destructor takes both back.
  loop.add_source(*ring);
  if (const int error = check_operations(ring->ring_); error != 0) return Error::from_errno(error);
  if (const int error = check_submission(ring->ring_); error != 0) return Error::from_errno(error);
  return ring;
}

Uring::~Uring() {
  assert(head_ == nullptr && in_flight_ == 0);
  if (!is_open_) return;
  loop_.remove_source(*this);
  io_uring_queue_exit(&ring_);
}

Uring::Request Uring::read(int descriptor, uint64_t host_offset, std::span<std::byte> buffer) {
  return Request(*this, Request::Operation::kRead, descriptor, host_offset, buffer.data(),
                 std::min(buffer.size(), kMaxTransfer));
}

Uring::Request Uring::write(int descriptor, uint64_t host_offset, std::span<const std::byte> data) {
  // The kernel only reads from it; the common field is not const.
  void* const memory = const_cast<std::byte*>(data.data());
  return Request(*this, Request::Operation::kWrite, descriptor, host_offset, memory,
                 std::min(data.size(), kMaxTransfer));
}

Uring::Request Uring::data_sync(int descriptor) {
  return Request(*this, Request::Operation::kDataSync, descriptor, 0, nullptr, 0);
}

void Uring::Request::await_suspend(std::coroutine_handle<> waiter) {
  waiter_ = waiter;
  ring_.enqueue(*this);
}

void Uring::Request::fill(io_uring_sqe& entry) {
  const auto length = static_cast<unsigned>(length_);
  switch (operation_) {
    case Operation::kRead:
      io_uring_prep_read(&entry, descriptor_, memory_, length, host_offset_);
      break;
    case Operation::kWrite:
      io_uring_prep_write(&entry, descriptor_, memory_, length, host_offset_);
      break;
    case Operation::kDataSync:
      io_uring_prep_fsync(&entry, descriptor_, IORING_FSYNC_DATASYNC);
      break;
  }
  io_uring_sqe_set_data(&entry, this);
}

void Uring::enqueue(Request& request) {
  request.next_ = nullptr;
  (tail_ == nullptr ? head_ : tail_->next_) = &request;
  tail_ = &request;
  if (unfilled_ == nullptr) unfilled_ = &request;
}

Uring::Request* Uring::pop() {
  Request* const request = std::exchange(head_, head_->next_);
  if (head_ == nullptr) tail_ = nullptr;
  return request;
}

void Uring::prepare() {
  if (is_refused_) return;
  while (unfilled_ != nullptr && unsubmitted_ + in_flight_ < kDepth) {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) break;
    unfilled_->fill(*entry);
    unfilled_ = unfilled_->next_;
    ++unsubmitted_;
  }
  if (unsubmitted_ == 0) return;
  ++submissions_;
  const int count = io_uring_submit(&ring_);
  if (count < 0 && !is_passing(-count)) {
    is_refused_ = true;
    return;
  }
  // What was not taken stays for the next round, which comes with a completion, or at once if there
  // is none to come.
  if (count <= 0) {
    if (in_flight_ == 0) loop_.notify();
    return;
  }
  for (int i = 0; i < count; ++i) pop();
  unsubmitted_ -= static_cast<unsigned>(count);
  in_flight_ += static_cast<unsigned>(count);
}

bool Uring::has_ready() const {
  return (is_refused_ && head_ != nullptr) || (in_flight_ > 0 && io_uring_cq_ready(&ring_) > 0);
}

bool Uring::dispatch(bool /*is_readable*/) {
  bool progress = false;
  while (is_refused_ && head_ != nullptr) {
    Request* const request = pop();
    request->result_ = -ENOSYS;
    progress = true;
    request->waiter_.resume();
  }
  io_uring_cqe* completion = nullptr;
  while (in_flight_ > 0 && io_uring_peek_cqe(&ring_, &completion) == 0) {
    auto* const request = static_cast<Request*>(io_uring_cqe_get_data(completion));
    request->result_ = completion->res;
    // Given back before the coroutine runs: it may run a nested round.
    io_uring_cqe_seen(&ring_, completion);
    --in_flight_;
    progress = true;
    request->waiter_.resume();
  }
  return progress;
}

}  // namespace imgconv
