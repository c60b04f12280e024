#include "tests/support/guest_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace imgconv::test {

void GuestHistory::write(size_t time, uint64_t guest_offset, std::span<const std::byte> bytes) {
  assert(guest_offset % kSector == 0 && bytes.size() % kSector == 0);
  assert(guest_offset + bytes.size() <= initial_.size());
  writes_.push_back({time, guest_offset, {bytes.begin(), bytes.end()}});
}

std::optional<std::string> GuestHistory::mismatch(size_t time,
                                                  std::span<const std::byte> guest) const {
  if (guest.size() != initial_.size()) {
    return fmt::format("the disk has {} bytes instead of {}", guest.size(), initial_.size());
  }
  // A flush covers what was written before it began, which is known to be before it ended.
  size_t covered = 0;
  for (const size_t flush_time : flush_times_) {
    if (flush_time <= time) covered = flush_time;
  }
  std::vector<std::byte> durable = initial_;
  std::vector<const Write*> later;
  for (const Write& write : writes_) {
    if (write.time < covered) {
      std::ranges::copy(write.bytes, durable.begin() + static_cast<ptrdiff_t>(write.guest_offset));
    } else if (write.time < time) {
      later.push_back(&write);
    }
  }
  for (uint64_t at = 0; at < guest.size(); at += kSector) {
    const std::span<const std::byte> sector = guest.subspan(at, kSector);
    if (std::ranges::equal(sector, std::span(durable).subspan(at, kSector))) continue;
    const bool is_later_write = std::ranges::any_of(later, [&](const Write* write) {
      if (at < write->guest_offset || at >= write->guest_offset + write->bytes.size()) return false;
      return std::ranges::equal(sector,
                                std::span(write->bytes).subspan(at - write->guest_offset, kSector));
    });
    if (!is_later_write) {
      return fmt::format("guest sector at {} holds neither what was flushed nor a later write", at);
    }
  }
  return std::nullopt;
}

}  // namespace imgconv::test
