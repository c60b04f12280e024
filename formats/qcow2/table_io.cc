#include "formats/qcow2/table_io.h"

#include <algorithm>

namespace imgconv::qcow2 {

namespace {

void zero_rest(std::span<std::byte> buffer, size_t filled) {
  std::fill(buffer.begin() + static_cast<ptrdiff_t>(filled), buffer.end(), std::byte{0});
}

Result<void> read_blocking(BlockingFile& file, std::span<const TableRead> reads) {
  for (const TableRead& piece : reads) {
    ASSIGN_OR_RETURN(const size_t filled, file.read(piece.host_offset, piece.buffer));
    zero_rest(piece.buffer, filled);
  }
  return ok();
}

Result<void> write_blocking(BlockingFile& file, std::span<const TableWrite> writes) {
  for (const TableWrite& piece : writes) {
    RETURN_IF_ERROR(file.write(piece.host_offset, piece.data));
  }
  return ok();
}

}  // namespace

Task<Result<void>> TableIo::read(std::span<const TableRead> reads) {
  if (executor_ != nullptr && reads.size() > 1) {
    BlockingFile& file = file_.blocking();
    auto job = [&file, reads] { return read_blocking(file, reads); };
    CO_RETURN_IF_ERROR(co_await run_on(*executor_, job));
    co_return ok();
  }
  for (const TableRead& piece : reads) {
    CO_RETURN_IF_ERROR(co_await read_one(piece.host_offset, piece.buffer));
  }
  co_return ok();
}

Task<Result<void>> TableIo::read_one(uint64_t host_offset, std::span<std::byte> buffer) {
  CO_ASSIGN_OR_RETURN(const size_t filled, co_await file_.read(host_offset, buffer));
  zero_rest(buffer, filled);
  co_return ok();
}

Task<Result<void>> TableIo::write(std::span<const TableWrite> writes) {
  if (executor_ != nullptr && writes.size() > 1) {
    BlockingFile& file = file_.blocking();
    auto job = [&file, writes] { return write_blocking(file, writes); };
    CO_RETURN_IF_ERROR(co_await run_on(*executor_, job));
    co_return ok();
  }
  for (const TableWrite& piece : writes) {
    CO_RETURN_IF_ERROR(co_await file_.write(piece.host_offset, piece.data));
  }
  co_return ok();
}

Task<Result<void>> TableIo::write_one(uint64_t host_offset, std::span<const std::byte> data) {
  CO_RETURN_IF_ERROR(co_await file_.write(host_offset, data));
  co_return ok();
}

}  // namespace imgconv::qcow2
