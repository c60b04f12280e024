#include "loop/runtime.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "loop/posix_storage.h"
#include "loop/thread_pool.h"
#include "loop/uring.h"

namespace imgconv {
namespace {

// More threads than this only queue in the kernel.
constexpr unsigned kMaxDefaultThreads = 16;

unsigned choose_pool_threads(const RuntimeOptions& options) {
  if (options.pool_threads != 0) return options.pool_threads;
  return std::clamp(std::thread::hardware_concurrency(), 1U, kMaxDefaultThreads);
}

}  // namespace

// Destroyed from the bottom up: storage, ring, pool, loop.
struct Runtime::Parts {
  explicit Parts(const RuntimeOptions& options)
      : backend(options.backend),
        loop(options.protocol),
        pool(loop, choose_pool_threads(options)),
        storage(pool, [this](bool is_direct) { return ring_for(is_direct); }) {}

  Uring* ring_for(bool is_direct);
  void probe_ring();
  std::string describe_backend();

  const IoBackendKind backend;
  AioContext loop;
  ThreadPool pool;
  // Made when the first file wants it: setting up a ring costs more than `info` of a small image.
  bool is_ring_probed = false;
  std::unique_ptr<Uring> ring;
  std::string ring_error;
  std::string note;
  PosixStorage storage;
};

void Runtime::Parts::probe_ring() {
  if (std::exchange(is_ring_probed, true)) return;
  Result<std::unique_ptr<Uring>> created = Uring::create(loop);
  if (created) {
    ring = std::move(*created);
  } else {
    ring_error = created.error().text();
  }
}

Uring* Runtime::Parts::ring_for(bool is_direct) {
  // In the page cache a fused job on the pool beats two trips through the ring (PERFORMANCE.md).
  const bool wants_ring =
      backend == IoBackendKind::kUring || (backend == IoBackendKind::kAuto && is_direct);
  if (!wants_ring) return nullptr;
  probe_ring();
  return ring.get();
}

std::string Runtime::Parts::describe_backend() {
  if (backend == IoBackendKind::kPool) return "I/O backend: thread pool";
  probe_ring();
  if (ring == nullptr) {
    return fmt::format("I/O backend: thread pool (io_uring is not available: {})", ring_error);
  }
  if (backend == IoBackendKind::kUring) return "I/O backend: io_uring";
  return "I/O backend: thread pool, io_uring for files opened with O_DIRECT";
}

Runtime::Runtime(const RuntimeOptions& options) : parts_(std::make_unique<Parts>(options)) {}

Runtime::~Runtime() = default;

AioContext& Runtime::loop() { return parts_->loop; }
Executor& Runtime::pool() { return parts_->pool; }
unsigned Runtime::pool_threads() const { return parts_->pool.max_threads(); }
Storage& Runtime::storage() { return parts_->storage; }

const std::string& Runtime::backend_note() const {
  if (parts_->note.empty()) parts_->note = parts_->describe_backend();
  return parts_->note;
}

}  // namespace imgconv
