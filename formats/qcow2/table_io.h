// TableIo: reads and writes many small pieces of metadata with one trip to another thread.
//
// Tables of an image with small clusters are scattered over the file; one request each would cost
// a wake-up of the loop per table. With an executor a whole batch is one job, without one each
// piece is a request of its own. Borrows the file and the executor. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "loop/executor.h"
#include "loop/file.h"
#include "loop/result.h"
#include "loop/task.h"
#include "loop/try.h"

namespace imgconv::qcow2 {

struct TableRead {
  uint64_t host_offset = 0;
  std::span<std::byte> buffer;
};

struct TableWrite {
  uint64_t host_offset = 0;
  std::span<const std::byte> data;
};

class TableIo {
 public:
  TableIo(File& file, Executor* executor) : file_(file), executor_(executor) {}

  /// Fills every buffer; what lies behind the end of the file becomes zeros (QCOW2.md 4.1). The
  /// pieces and the span must outlive the task.
  Task<Result<void>> read(std::span<const TableRead> reads);
  Task<Result<void>> read_one(uint64_t host_offset, std::span<std::byte> buffer);
  Task<Result<void>> write(std::span<const TableWrite> writes);
  Task<Result<void>> write_one(uint64_t host_offset, std::span<const std::byte> data);

  /// Runs `function`, which takes long or blocks, away from the loop thread if possible. It must
  /// return a Result<void>.
  template <class Function>
  Task<Result<void>> run(Function function) {
    if (executor_ == nullptr) co_return function();
    Result<void> result = co_await run_on(*executor_, std::move(function));
    co_return result;
  }

  File& file() { return file_; }

 private:
  File& file_;
  Executor* const executor_;
};

}  // namespace imgconv::qcow2
