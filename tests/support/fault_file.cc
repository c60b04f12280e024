#include "tests/support/fault_file.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "loop/try.h"

namespace imgconv::test {

void FaultScript::fail_nth(OperationSet kinds, uint64_t n, int errno_value) {
  assert(n > 0);
  const std::lock_guard lock(mutex_);
  rules_.push_back({kinds, errno_value, 0, UINT64_MAX, n, false});
}

void FaultScript::fail_always(OperationSet kinds, int errno_value) {
  fail_range(kinds, 0, UINT64_MAX, errno_value);
}

void FaultScript::fail_range(OperationSet kinds, uint64_t host_offset, uint64_t length,
                             int errno_value) {
  const std::lock_guard lock(mutex_);
  rules_.push_back({kinds, errno_value, host_offset, length, 0, false});
}

void FaultScript::cut_reads_at(uint64_t host_offset) {
  const std::lock_guard lock(mutex_);
  read_cut_ = host_offset;
}

void FaultScript::reset() {
  const std::lock_guard lock(mutex_);
  rules_.clear();
  counts_.assign(kOperationKinds, 0);
  fired_ = 0;
  read_cut_.reset();
}

uint64_t FaultScript::count(OperationSet kinds) const {
  const std::lock_guard lock(mutex_);
  uint64_t sum = 0;
  for (unsigned kind = 0; kind < kOperationKinds; ++kind) {
    if (kinds.contains(static_cast<FileOperation>(kind))) sum += counts_[kind];
  }
  return sum;
}

uint64_t FaultScript::fired() const {
  const std::lock_guard lock(mutex_);
  return fired_;
}

Result<void> FaultScript::admit(FileOperation operation, uint64_t host_offset, uint64_t length) {
  const std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(operation)];
  int errno_value = 0;
  for (Rule& rule : rules_) {
    const bool touches = host_offset - std::min(host_offset, rule.host_offset) < rule.length &&
                         (length == 0 || rule.host_offset < host_offset + length);
    if (rule.is_spent || !rule.kinds.contains(operation) || !touches) continue;
    if (rule.countdown > 0) {
      rule.is_spent = --rule.countdown == 0;
      if (!rule.is_spent) continue;
    }
    if (errno_value == 0) errno_value = rule.errno_value;
  }
  if (errno_value == 0) return ok();
  ++fired_;
  return Error::from_errno(errno_value);
}

uint64_t FaultScript::readable_end() const {
  const std::lock_guard lock(mutex_);
  return read_cut_.value_or(UINT64_MAX);
}

FaultFile::FaultFile(std::unique_ptr<BlockingFile> inner, FaultScript& script)
    : inner_(std::move(inner)), script_(script) {}

Result<size_t> FaultFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kRead, host_offset, buffer.size()));
  const uint64_t end = script_.readable_end();
  if (host_offset >= end) return size_t{0};
  return inner_->read(host_offset,
                      buffer.first(std::min<uint64_t>(buffer.size(), end - host_offset)));
}

Result<void> FaultFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kWrite, host_offset, data.size()));
  return inner_->write(host_offset, data);
}

Result<void> FaultFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kWriteZeroes, host_offset, length));
  return inner_->write_zeroes(host_offset, length, flags);
}

Result<void> FaultFile::discard(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kDiscard, host_offset, length));
  return inner_->discard(host_offset, length);
}

Result<void> FaultFile::flush() {
  RETURN_IF_ERROR(script_.admit(FileOperation::kFlush, 0, 0));
  return inner_->flush();
}

Result<void> FaultFile::truncate(uint64_t length) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kTruncate, length, 0));
  return inner_->truncate(length);
}

Result<void> FaultFile::allocate(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kAllocate, host_offset, length));
  return inner_->allocate(host_offset, length);
}

Result<FileExtent> FaultFile::block_status(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(script_.admit(FileOperation::kBlockStatus, host_offset, length));
  return inner_->block_status(host_offset, length);
}

Result<FileStat> FaultFile::stat() {
  RETURN_IF_ERROR(script_.admit(FileOperation::kStat, 0, 0));
  return inner_->stat();
}

void FaultFile::will_need(uint64_t host_offset, uint64_t length) {
  inner_->will_need(host_offset, length);
}

}  // namespace imgconv::test
