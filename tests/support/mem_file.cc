#include "tests/support/mem_file.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "loop/try.h"
#include "loop/units.h"

namespace imgconv::test {
namespace {

/// As a file system answers ranges that do not fit in 64 bits.
Result<void> check_range(uint64_t host_offset, uint64_t length) {
  if (!checked_add(host_offset, length)) return Error::from_errno(EINVAL);
  return ok();
}

}  // namespace

MemContent::MemContent(MemFileTraits traits) : traits_(traits) {}

size_t MemContent::read(uint64_t host_offset, std::span<std::byte> buffer) const {
  const std::lock_guard lock(mutex_);
  if (host_offset >= length_) return 0;
  const size_t readable = std::min<uint64_t>(buffer.size(), length_ - host_offset);
  std::fill_n(buffer.begin(), readable, std::byte{0});
  const uint64_t end = host_offset + readable;
  for (auto page = pages_.lower_bound(host_offset / kPageSize);
       page != pages_.end() && page->first * kPageSize < end; ++page) {
    const uint64_t page_begin = page->first * kPageSize;
    const uint64_t from = std::max(page_begin, host_offset);
    const uint64_t to = std::min(page_begin + kPageSize, end);
    std::memcpy(buffer.data() + (from - host_offset), page->second->data() + (from - page_begin),
                to - from);
  }
  return readable;
}

Result<void> MemContent::write(uint64_t host_offset, std::span<const std::byte> data) {
  const std::lock_guard lock(mutex_);
  if (data.empty()) return ok();
  RETURN_IF_ERROR(check_range(host_offset, data.size()));
  RETURN_IF_ERROR(grow_to(host_offset + data.size()));
  return write_bytes(host_offset, data);
}

Result<void> MemContent::write_bytes(uint64_t host_offset, std::span<const std::byte> data) {
  for (size_t done = 0; done < data.size();) {
    const uint64_t position = host_offset + done;
    const size_t in_page = position % kPageSize;
    const size_t length = std::min<size_t>(data.size() - done, kPageSize - in_page);
    Page* page = find_or_add_page(position / kPageSize);
    if (page == nullptr) return Error::from_errno(ENOSPC);
    std::memcpy(page->data() + in_page, data.data() + done, length);
    done += length;
  }
  return ok();
}

Result<void> MemContent::zero_bytes(uint64_t host_offset, uint64_t length) {
  static constexpr Page kZeroPage{};
  for (uint64_t done = 0; done < length;) {
    const uint64_t position = host_offset + done;
    const uint64_t step = std::min(length - done, kPageSize - position % kPageSize);
    RETURN_IF_ERROR(write_bytes(position, std::span(kZeroPage).first(step)));
    done += step;
  }
  return ok();
}

void MemContent::drop_pages(uint64_t first_page, uint64_t end_page) {
  pages_.erase(pages_.lower_bound(first_page), pages_.lower_bound(end_page));
}

Result<void> MemContent::write_zeroes(uint64_t host_offset, uint64_t length, bool may_unmap) {
  const std::lock_guard lock(mutex_);
  if (length == 0) return ok();
  RETURN_IF_ERROR(check_range(host_offset, length));
  const uint64_t end = host_offset + length;
  RETURN_IF_ERROR(grow_to(end));
  if (!may_unmap) return zero_bytes(host_offset, length);
  const uint64_t first_whole = std::min(round_up(host_offset, kPageSize), end);
  // The part of the last page behind the end of the file is nobody's: the page may go.
  const uint64_t end_whole =
      end == length_ ? round_up(end, kPageSize) : std::max(round_down(end, kPageSize), first_whole);
  // Only pages that exist need zeroing at the edges, as a file system would do it.
  const auto zero_edge = [&](uint64_t from, uint64_t to) -> Result<void> {
    if (from >= to || !pages_.contains(from / kPageSize)) return ok();
    return zero_bytes(from, to - from);
  };
  RETURN_IF_ERROR(zero_edge(host_offset, first_whole));
  if (end > end_whole) RETURN_IF_ERROR(zero_edge(end_whole, end));
  drop_pages(first_whole / kPageSize, end_whole / kPageSize);
  return ok();
}

Result<void> MemContent::truncate(uint64_t length) {
  const std::lock_guard lock(mutex_);
  if (traits_.is_block_device) return Error::from_errno(EINVAL);
  if (length < length_) {
    drop_pages(div_round_up(length, kPageSize), UINT64_MAX);
    const auto last = pages_.find(length / kPageSize);
    if (last != pages_.end()) {
      std::fill(last->second->begin() + static_cast<std::ptrdiff_t>(length % kPageSize),
                last->second->end(), std::byte{0});
    }
  }
  length_ = length;
  return ok();
}

Result<void> MemContent::allocate(uint64_t host_offset, uint64_t length) {
  const std::lock_guard lock(mutex_);
  if (length == 0) return Error::from_errno(EINVAL);
  RETURN_IF_ERROR(check_range(host_offset, length));
  RETURN_IF_ERROR(grow_to(host_offset + length));
  for (uint64_t page = host_offset / kPageSize; page * kPageSize < host_offset + length; ++page) {
    if (find_or_add_page(page) == nullptr) return Error::from_errno(ENOSPC);
  }
  return ok();
}

FileExtent MemContent::block_status(uint64_t host_offset, uint64_t length) const {
  const std::lock_guard lock(mutex_);
  if (host_offset >= length_) return {host_offset, length, false};
  const uint64_t limit = host_offset + std::min(length, length_ - host_offset);
  auto page = pages_.lower_bound(host_offset / kPageSize);
  if (page == pages_.end() || page->first * kPageSize > host_offset) {
    const uint64_t hole_end = page == pages_.end() ? limit : page->first * kPageSize;
    return {host_offset, std::min(hole_end, limit) - host_offset, false};
  }
  uint64_t data_end = host_offset;
  while (page != pages_.end() && page->first * kPageSize <= data_end && data_end < limit) {
    data_end = (page->first + 1) * kPageSize;
    ++page;
  }
  return {host_offset, std::min(data_end, limit) - host_offset, true};
}

FileStat MemContent::stat() const {
  const std::lock_guard lock(mutex_);
  FileStat stat;
  stat.length = length_;
  stat.allocated = pages_.size() * kPageSize;
  stat.is_block_device = traits_.is_block_device;
  stat.request_alignment = traits_.request_alignment;
  stat.extends_with_zeros = !traits_.is_block_device;
  return stat;
}

std::vector<std::byte> MemContent::bytes() const {
  std::vector<std::byte> all(length());
  read(0, all);
  return all;
}

void MemContent::assign(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  pages_.clear();
  length_ = bytes.size();
  for (size_t offset = 0; offset < bytes.size(); offset += kPageSize) {
    const auto part = bytes.subspan(offset, std::min<size_t>(kPageSize, bytes.size() - offset));
    const bool is_all_zero =
        std::all_of(part.begin(), part.end(), [](std::byte b) { return b == std::byte{0}; });
    if (!is_all_zero)
      std::copy(part.begin(), part.end(), find_or_add_page(offset / kPageSize)->begin());
  }
}

uint64_t MemContent::length() const {
  const std::lock_guard lock(mutex_);
  return length_;
}

void MemContent::set_device_length(uint64_t length) {
  const std::lock_guard lock(mutex_);
  assert(traits_.is_block_device);
  length_ = length;
}

Result<void> MemContent::grow_to(uint64_t end) {
  if (end <= length_) return ok();
  if (traits_.is_block_device) return Error::from_errno(ENOSPC);
  length_ = end;
  return ok();
}

MemContent::Page* MemContent::find_or_add_page(uint64_t page_index) {
  const auto found = pages_.find(page_index);
  if (found != pages_.end()) return found->second.get();
  if (traits_.capacity && (pages_.size() + 1) * kPageSize > *traits_.capacity) return nullptr;
  return pages_.emplace(page_index, std::make_unique<Page>()).first->second.get();
}

MemFile::MemFile(std::string name) : MemFile(std::move(name), std::make_shared<MemContent>()) {}

MemFile::MemFile(std::string name, std::shared_ptr<MemContent> content, bool writable)
    : name_(std::move(name)), content_(std::move(content)), is_writable_(writable) {}

Result<void> MemFile::check_writable() const {
  if (!is_writable_) return Error::from_errno(EBADF);
  return ok();
}

Result<void> MemFile::check_alignment(uint64_t host_offset,
                                      std::span<const std::byte> memory) const {
  const uint64_t unit = content_->traits().request_alignment;
  const bool is_address_aligned = is_aligned(reinterpret_cast<uintptr_t>(memory.data()), unit);
  if (is_aligned(host_offset, unit) && is_aligned(memory.size(), unit) && is_address_aligned) {
    return ok();
  }
  return Error::from_errno(EINVAL);
}

Result<size_t> MemFile::read(uint64_t host_offset, std::span<std::byte> buffer) {
  RETURN_IF_ERROR(check_alignment(host_offset, buffer));
  return content_->read(host_offset, buffer);
}

Result<void> MemFile::write(uint64_t host_offset, std::span<const std::byte> data) {
  RETURN_IF_ERROR(check_writable());
  RETURN_IF_ERROR(check_alignment(host_offset, data));
  return content_->write(host_offset, data);
}

Result<void> MemFile::write_zeroes(uint64_t host_offset, uint64_t length, ZeroFlags flags) {
  RETURN_IF_ERROR(check_writable());
  return content_->write_zeroes(host_offset, length, flags.may_unmap);
}

Result<void> MemFile::discard(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(check_writable());
  // Like punching a hole: what is behind the end stays nothing.
  const uint64_t file_length = content_->length();
  if (host_offset >= file_length) return ok();
  return content_->write_zeroes(host_offset, std::min(length, file_length - host_offset), true);
}

Result<void> MemFile::flush() { return ok(); }

Result<void> MemFile::truncate(uint64_t length) {
  RETURN_IF_ERROR(check_writable());
  return content_->truncate(length);
}

Result<void> MemFile::allocate(uint64_t host_offset, uint64_t length) {
  RETURN_IF_ERROR(check_writable());
  return content_->allocate(host_offset, length);
}

Result<FileExtent> MemFile::block_status(uint64_t host_offset, uint64_t length) {
  return content_->block_status(host_offset, length);
}

Result<FileStat> MemFile::stat() { return content_->stat(); }

std::vector<std::byte> to_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace imgconv::test
