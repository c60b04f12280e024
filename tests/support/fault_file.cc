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

Result<void> FaultScript::before(const FileCall& call) {
  const uint64_t host_offset = call.host_offset;
  const uint64_t length = call.length;
  const std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(call.operation)];
  int errno_value = 0;
  for (Rule& rule : rules_) {
    const bool touches = host_offset - std::min(host_offset, rule.host_offset) < rule.length &&
                         (length == 0 || rule.host_offset < host_offset + length);
    if (rule.is_spent || !rule.kinds.contains(call.operation) || !touches) continue;
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

}  // namespace imgconv::test
