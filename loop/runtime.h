// Runtime: the loop, the pool, the ring if there is one, and the storage that uses them, put
// together for one process. What cmd/ and the engine tests stand on. Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "loop/aio_context.h"
#include "loop/executor.h"
#include "loop/storage.h"
#include "loop/task.h"

namespace imgconv {

enum class IoBackendKind : uint8_t { kAuto, kPool, kUring };

struct RuntimeOptions {
  /// 0: one per core, at most 16.
  unsigned pool_threads = 0;
  IoBackendKind backend = IoBackendKind::kAuto;
  /// For the reproducer: how finished jobs reach the loop; null: as AioContext does it.
  history::LoopProtocol* protocol = nullptr;
};

class Runtime {
 public:
  explicit Runtime(const RuntimeOptions& options);
  ~Runtime();

  AioContext& loop();
  Executor& pool();
  unsigned pool_threads() const;
  Storage& storage();
  /// Which backend serves files, and why another one does not; for -v. Example: "I/O backend:
  /// thread pool (io_uring is not available: Operation not permitted)".
  const std::string& backend_note() const;

  /// Runs the loop until `task` is done and returns what it returned.
  template <class T>
  T run(Task<T> task) {
    task.start();
    while (!task.is_done()) loop().run_once();
    return task.take();
  }

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace imgconv
