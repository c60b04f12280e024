#include "tests/support/hooked_file.h"

#include <algorithm>
#include <utility>

#include "loop/try.h"

namespace imgconv::test {

using Op = FileOperation;

HookedFile::HookedFile(std::unique_ptr<BlockingFile> inner, FileHook& hook)
    : inner_(std::move(inner)), hook_(hook) {}

Result<void> HookedFile::ask(FileOperation operation, uint64_t host_offset, uint64_t length,
                             std::span<const std::byte> data) {
  return hook_.before({inner_->name(), operation, host_offset, length, data});
}

Result<size_t> HookedFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  RETURN_IF_ERROR(ask(Op::kRead, host_offset, buffer.size()));
  const uint64_t end = hook_.readable_end();
  if (host_offset >= end) return size_t{0};
  return inner_->read(host_offset,
                      buffer.first(std::min<uint64_t>(buffer.size(), end - host_offset)));
}

Result<void> HookedFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  RETURN_IF_ERROR(ask(Op::kWrite, host_offset, data.size(), data));
  return inner_->write(host_offset, data);
}

Result<void> HookedFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  RETURN_IF_ERROR(ask(Op::kWriteZeroes, host_offset, length));
  return inner_->write_zeroes(host_offset, length, flags);
}

Result<void> HookedFile::discard(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(ask(Op::kDiscard, host_offset, length));
  return inner_->discard(host_offset, length);
}

Result<void> HookedFile::flush() {
  RETURN_IF_ERROR(ask(Op::kFlush, 0, 0));
  return inner_->flush();
}

Result<void> HookedFile::truncate(uint64_t length) {
  RETURN_IF_ERROR(ask(Op::kTruncate, length, 0));
  return inner_->truncate(length);
}

Result<void> HookedFile::allocate(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(ask(Op::kAllocate, host_offset, length));
  return inner_->allocate(host_offset, length);
}

Result<FileExtent> HookedFile::block_status(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(ask(Op::kBlockStatus, host_offset, length));
  return inner_->block_status(host_offset, length);
}

Result<FileStat> HookedFile::stat() {
  RETURN_IF_ERROR(ask(Op::kStat, 0, 0));
  return inner_->stat();
}

}  // namespace imgconv::test
