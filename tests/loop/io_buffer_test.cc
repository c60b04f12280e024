#include "loop/io_buffer.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <thread>
#include <utility>

#include "loop/units.h"

namespace imgconv {
namespace {

bool is_address_aligned(const IoBuffer& buffer, uint64_t unit) {
  return is_aligned(reinterpret_cast<uintptr_t>(buffer.data()), unit);
}

}  // namespace

TEST_CASE("IoBuffer: memory is aligned for O_DIRECT, large memory for huge pages",
          "[loop][io_buffer]") {
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{70'000}, size_t{2 * kMiB - 1}}) {
    IoBuffer buffer(size);
    CHECK(buffer.size() == size);
    CHECK(is_address_aligned(buffer, IoBuffer::kAlignment));
    std::memset(buffer.data(), 1, size);
  }
  const IoBuffer large(2 * kMiB + 1);
  CHECK(is_address_aligned(large, 2 * kMiB));
}

TEST_CASE("IoBuffer: an empty buffer has no memory", "[loop][io_buffer]") {
  const IoBuffer buffer(0);
  CHECK(buffer.data() == nullptr);
  CHECK(buffer.span().empty());
}

TEST_CASE("IoBuffer: freed memory is used again by the same thread", "[loop][io_buffer]") {
  const std::byte* address = nullptr;
  {
    const IoBuffer buffer(256 * kKiB);
    address = buffer.data();
  }
  const IoBuffer again(256 * kKiB - 1);
  CHECK(again.data() == address);
}

TEST_CASE("IoBuffer: sizes that were used long ago do not keep out the present one",
          "[loop][io_buffer]") {
  for (size_t size = 1; size <= 20; ++size) {
    const IoBuffer past(size * 8 * kKiB);
  }
  const std::byte* address = nullptr;
  {
    const IoBuffer buffer(256 * kKiB);
    address = buffer.data();
  }
  const IoBuffer again(256 * kKiB);
  CHECK(again.data() == address);
}

TEST_CASE("IoBuffer: moving hands the memory over", "[loop][io_buffer]") {
  IoBuffer first(4096);
  const std::byte* const address = first.data();
  IoBuffer second(std::move(first));
  CHECK(second.data() == address);
  first = std::move(second);
  CHECK(first.data() == address);
  CHECK(second.data() == nullptr);
}

TEST_CASE("IoBuffer: may be freed on another thread", "[loop][io_buffer]") {
  IoBuffer buffer(4096);
  std::thread other([taken = std::move(buffer)]() mutable { IoBuffer gone = std::move(taken); });
  other.join();
  CHECK(buffer.data() == nullptr);
}

}  // namespace imgconv
