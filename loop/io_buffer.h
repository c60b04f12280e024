// IoBuffer: memory for I/O, aligned for O_DIRECT and, from 2 MiB on, for huge pages.
//
// A value that owns its bytes; their content is undefined at first. Freed buffers go to a small
// list of the thread that frees them, so that a copy loop reuses warm memory instead of taking page
// faults. Any thread; a buffer may be freed on another thread than it came from.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace imgconv {

class IoBuffer {
 public:
  /// Enough for every O_DIRECT file that Linux has today: page size.
  static constexpr size_t kAlignment = 4096;

  IoBuffer() = default;
  /// Ends the process when there is no memory (loop/out_of_memory.h).
  explicit IoBuffer(size_t size);
  IoBuffer(IoBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  IoBuffer& operator=(IoBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~IoBuffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<std::byte> span() { return {data_, size_}; }
  std::span<const std::byte> span() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  // What was allocated: size_ rounded up to the alignment.
  size_t capacity_ = 0;
};

}  // namespace imgconv
