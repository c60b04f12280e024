#include "tests/support/crash_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "loop/units.h"

namespace imgconv::test {

using Op = FileOperation;

namespace {

/// What a medium writes whole or not at all.
constexpr uint64_t kSector = 512;
/// Stretches with more writes than this get a sample of "the only one" and "the missing one".
constexpr size_t kMaxSingles = 48;

constexpr OperationSet kRecorded = {Op::kWrite, Op::kWriteZeroes, Op::kDiscard,
                                    Op::kFlush, Op::kTruncate,    Op::kAllocate};

void grow_to(std::vector<std::byte>& bytes, uint64_t length) {
  if (bytes.size() < length) bytes.resize(length);
}

}  // namespace

CrashLog::CrashLog(MemStorage& storage) : storage_(storage) {
  storage.set_wrapper([this](std::unique_ptr<BlockingFile> inner) {
    return std::make_unique<HookedFile>(std::move(inner), *this);
  });
  start();
}

void CrashLog::start() {
  start_.clear();
  for (const std::string& name : storage_.names()) start_[name] = storage_.bytes(name);
  records_.clear();
}

Result<void> CrashLog::before(const FileCall& call) {
  if (!kRecorded.contains(call.operation)) return ok();
  records_.push_back({call.file,
                      call.operation,
                      call.host_offset,
                      call.length,
                      {call.data.begin(), call.data.end()}});
  return ok();
}

void CrashLog::apply(Medium& medium, const Record& record) {
  std::vector<std::byte>& bytes = medium[record.file];
  if (record.operation == Op::kTruncate) {
    bytes.resize(record.host_offset);
    return;
  }
  grow_to(bytes, record.host_offset + record.length);
  const auto target = bytes.begin() + static_cast<ptrdiff_t>(record.host_offset);
  if (record.operation == Op::kWrite) std::ranges::copy(record.data, target);
  const bool zeroes = record.operation == Op::kWriteZeroes || record.operation == Op::kDiscard;
  if (zeroes) std::fill_n(target, record.length, std::byte{0});
}

void CrashLog::apply_torn(Medium& medium, const Record& record, std::mt19937& random) {
  if (record.operation != Op::kWrite && record.operation != Op::kWriteZeroes) {
    apply(medium, record);
    return;
  }
  const uint64_t end = record.host_offset + record.length;
  for (uint64_t at = record.host_offset; at < end;) {
    const uint64_t stop = std::min(end, round_down(at, kSector) + kSector);
    if (random() % 2 == 0) {
      Record sector{record.file, record.operation, at, stop - at, {}};
      if (record.operation == Op::kWrite) {
        const auto first = record.data.begin() + static_cast<ptrdiff_t>(at - record.host_offset);
        sector.data.assign(first, first + static_cast<ptrdiff_t>(stop - at));
      }
      apply(medium, sector);
    }
    at = stop;
  }
}

void CrashLog::for_each_state(uint32_t seed, unsigned random_subsets, const Judge& judge) const {
  std::mt19937 random(seed);
  Medium durable = start_;
  Pending pending;
  for (size_t time = 0; time < records_.size(); ++time) {
    const Record& record = records_[time];
    if (record.operation != Op::kFlush) {
      pending.push_back(time);
      continue;
    }
    judge_stretch(durable, pending, time, random_subsets, random, judge);
    const auto is_covered = [&](size_t i) { return records_[i].file == record.file; };
    for (const size_t i : pending) {
      if (is_covered(i)) apply(durable, records_[i]);
    }
    std::erase_if(pending, is_covered);
  }
  judge_stretch(durable, pending, records_.size(), random_subsets, random, judge);
}

void CrashLog::judge_stretch(const Medium& durable, const Pending& pending, size_t time,
                             unsigned random_subsets, std::mt19937& random,
                             const Judge& judge) const {
  const size_t count = pending.size();
  const auto show = [&](const std::string& what, const auto& is_chosen, bool is_torn = false) {
    CrashState state{durable, time, fmt::format("at record {}, {}:", time, what)};
    for (size_t i = 0; i < count; ++i) {
      const Record& record = records_[pending[i]];
      if (!is_chosen(i)) continue;
      if (is_torn) {
        apply_torn(state.files, record, random);
      } else {
        apply(state.files, record);
      }
      state.description +=
          fmt::format(" [{} {} {}+{}]", record.file, operation_name(record.operation),
                      record.host_offset, record.length);
    }
    judge(state);
  };
  for (size_t cut = 0; cut <= count; ++cut) {
    show("cut", [cut](size_t i) { return i < cut; });
  }
  for (size_t i = 0; i < std::min(count, kMaxSingles); ++i) {
    const size_t one = count <= kMaxSingles ? i : random() % count;
    if (one > 0) show("one alone", [one](size_t at) { return at == one; });
    if (one + 1 < count) show("one missing", [one](size_t at) { return at != one; });
  }
  if (count < 2) random_subsets = std::min(random_subsets, 2U);
  for (unsigned i = 0; i < random_subsets && count > 0; ++i) {
    const auto share = 1 + random() % 7;
    const bool is_torn = i % 2 == 0;
    const auto is_chosen = [&](size_t) { return random() % 8 < share; };
    show(is_torn ? "torn subset" : "subset", is_chosen, is_torn);
  }
}

}  // namespace imgconv::test
