#include "tests/support/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace imgconv::test {

std::vector<TraceEntry> TraceLog::entries(OperationSet kinds) const {
  const std::lock_guard lock(mutex_);
  std::vector<TraceEntry> matching;
  for (const TraceEntry& entry : entries_) {
    if (kinds.contains(entry.operation)) matching.push_back(entry);
  }
  return matching;
}

std::vector<TraceEntry> TraceLog::sorted(OperationSet kinds) const {
  std::vector<TraceEntry> matching = entries(kinds);
  std::stable_sort(matching.begin(), matching.end(), [](const TraceEntry& a, const TraceEntry& b) {
    return std::tie(a.host_offset, a.length) < std::tie(b.host_offset, b.length);
  });
  return matching;
}

uint64_t TraceLog::count(OperationSet kinds) const { return entries(kinds).size(); }

uint64_t TraceLog::bytes(OperationSet kinds) const {
  uint64_t sum = 0;
  for (const TraceEntry& entry : entries(kinds)) sum += entry.length;
  return sum;
}

bool TraceLog::touches(OperationSet kinds, uint64_t host_offset, uint64_t length) const {
  const std::vector<TraceEntry> matching = entries(kinds);
  return std::any_of(matching.begin(), matching.end(), [&](const TraceEntry& entry) {
    return entry.host_offset < host_offset + length && host_offset < entry.host_end();
  });
}

void TraceLog::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
}

void TraceLog::record(TraceEntry entry) {
  const std::lock_guard lock(mutex_);
  entries_.push_back(std::move(entry));
}

std::string to_string(const TraceEntry& entry) {
  return fmt::format("{} {}+{}", operation_name(entry.operation), entry.host_offset, entry.length);
}

std::vector<std::string> to_strings(const std::vector<TraceEntry>& entries) {
  std::vector<std::string> lines;
  for (const TraceEntry& entry : entries) lines.push_back(to_string(entry));
  return lines;
}

TraceFile::TraceFile(std::unique_ptr<BlockingFile> inner, TraceLog& log)
    : inner_(std::move(inner)), log_(log) {}

void TraceFile::record(FileOperation operation, uint64_t host_offset, uint64_t length) {
  log_.record({inner_->name(), operation, host_offset, length});
}

Result<size_t> TraceFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  record(FileOperation::kRead, host_offset, buffer.size());
  return inner_->read(host_offset, buffer);
}

Result<void> TraceFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  record(FileOperation::kWrite, host_offset, data.size());
  return inner_->write(host_offset, data);
}

Result<void> TraceFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  record(FileOperation::kWriteZeroes, host_offset, length);
  return inner_->write_zeroes(host_offset, length, flags);
}

Result<void> TraceFile::discard(uint64_t host_offset, uint64_t length) {
  record(FileOperation::kDiscard, host_offset, length);
  return inner_->discard(host_offset, length);
}

Result<void> TraceFile::flush() {
  record(FileOperation::kFlush, 0, 0);
  return inner_->flush();
}

Result<void> TraceFile::truncate(uint64_t length) {
  record(FileOperation::kTruncate, length, 0);
  return inner_->truncate(length);
}

Result<void> TraceFile::allocate(uint64_t host_offset, uint64_t length) {
  record(FileOperation::kAllocate, host_offset, length);
  return inner_->allocate(host_offset, length);
}

Result<FileExtent> TraceFile::block_status(uint64_t host_offset, uint64_t length) {
  record(FileOperation::kBlockStatus, host_offset, length);
  return inner_->block_status(host_offset, length);
}

Result<FileStat> TraceFile::stat() {
  record(FileOperation::kStat, 0, 0);
  return inner_->stat();
}

void TraceFile::will_need(uint64_t host_offset, uint64_t length) {
  inner_->will_need(host_offset, length);
}

}  // namespace imgconv::test
