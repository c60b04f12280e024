#include "loop/io_buffer.h"

#include <sys/mman.h>

#include <array>
#include <cstdlib>

#include "loop/out_of_memory.h"
#include "loop/per_thread.h"
#include "loop/units.h"

namespace imgconv {
namespace {

constexpr size_t kHugePageSize = 2 * kMiB;

// Blocks kept by one thread. A worker uses one or two buffers at a time; more than this many are
// not worth their memory. Limit: a buffer larger than kMaxKeptSize is never kept.
constexpr size_t kMaxKeptBlocks = 4;
constexpr size_t kMaxKeptSize = 4 * kMiB;

struct Block {
  std::byte* data = nullptr;
  size_t capacity = 0;
};

class FreeList {
 public:
  ~FreeList() {
    for (const Block& block : blocks_) std::free(block.data);
  }

  std::byte* take(size_t capacity) {
    for (Block& block : blocks_) {
      if (block.data != nullptr && block.capacity == capacity) {
        return std::exchange(block.data, nullptr);
      }
    }
    return nullptr;
  }

  /// Takes over the block. A full list gives up an old one: sizes that are no longer used must not
  /// keep out those that are.
  void put(std::byte* data, size_t capacity) {
    if (capacity > kMaxKeptSize) {
      std::free(data);
      return;
    }
    for (Block& block : blocks_) {
      if (block.data == nullptr) {
        block = {data, capacity};
        return;
      }
    }
    Block& victim = blocks_[next_victim_];
    next_victim_ = (next_victim_ + 1) % kMaxKeptBlocks;
    std::free(victim.data);
    victim = {data, capacity};
  }

 private:
  std::array<Block, kMaxKeptBlocks> blocks_;
  size_t next_victim_ = 0;
};

FreeList& free_list() {
  static const PerThread<FreeList> lists;
  return lists.get();
}

std::byte* allocate_block(size_t capacity) {
  const bool is_huge = capacity >= kHugePageSize;
  void* const data = std::aligned_alloc(is_huge ? kHugePageSize : IoBuffer::kAlignment, capacity);
  if (data == nullptr) out_of_memory();
  // Only a wish; without huge pages the memory is as good as any.
  if (is_huge) ::madvise(data, capacity, MADV_HUGEPAGE);
  return static_cast<std::byte*>(data);
}

}  // namespace

IoBuffer::IoBuffer(size_t size) : size_(size) {
  if (size == 0) return;
  const size_t unit = size >= kHugePageSize ? kHugePageSize : kAlignment;
  if (size > SIZE_MAX - unit) out_of_memory();
  capacity_ = round_up(size, unit);
  data_ = free_list().take(capacity_);
  if (data_ == nullptr) data_ = allocate_block(capacity_);
}

IoBuffer::~IoBuffer() {
  if (data_ != nullptr) free_list().put(data_, capacity_);
}

}  // namespace imgconv
