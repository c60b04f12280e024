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

Result<void> TraceLog::before(const FileCall& call) {
  record({call.file, call.operation, call.host_offset, call.length});
  return ok();
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

}  // namespace imgconv::test
