// Integers of fixed byte order as they stand in files: be16, be32, be64 are fields of on-disk
// structures (alignment 1, trivially copyable); load_be/store_be are for single values in a buffer.
// Not for arithmetic: convert once, when the value enters. Pure, any thread.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace imgconv {

static_assert(std::endian::native == std::endian::little ||
              std::endian::native == std::endian::big);

namespace detail {
constexpr uint16_t swap_bytes(uint16_t value) { return __builtin_bswap16(value); }
constexpr uint32_t swap_bytes(uint32_t value) { return __builtin_bswap32(value); }
constexpr uint64_t swap_bytes(uint64_t value) { return __builtin_bswap64(value); }
}  // namespace detail

/// The same conversion in both directions.
template <class Integer>
constexpr Integer host_to_be(Integer value) {
  if constexpr (std::endian::native == std::endian::big) return value;
  return detail::swap_bytes(value);
}
template <class Integer>
constexpr Integer be_to_host(Integer value) {
  return host_to_be(value);
}

/// Requires: sizeof(Integer) bytes at `from`; no alignment needed.
template <class Integer>
Integer load_be(const std::byte* from) {
  Integer value;
  std::memcpy(&value, from, sizeof(value));
  return be_to_host(value);
}
/// Requires: room for sizeof(Integer) bytes at `to`; no alignment needed.
template <class Integer>
void store_be(std::byte* to, Integer value) {
  value = host_to_be(value);
  std::memcpy(to, &value, sizeof(value));
}

/// A field of an on-disk structure.
template <class Integer>
class BigEndian {
 public:
  BigEndian() = default;
  BigEndian(Integer value) { store_be(bytes_.data(), value); }
  Integer get() const { return load_be<Integer>(bytes_.data()); }

 private:
  std::array<std::byte, sizeof(Integer)> bytes_{};
};

using be16 = BigEndian<uint16_t>;
using be32 = BigEndian<uint32_t>;
using be64 = BigEndian<uint64_t>;

static_assert(sizeof(be16) == 2 && alignof(be16) == 1);
static_assert(sizeof(be32) == 4 && alignof(be32) == 1);
static_assert(sizeof(be64) == 8 && alignof(be64) == 1);

/// The structure at the start of `bytes`; what is missing at the end counts as zeros, as QEMU reads
/// files that are too short.
template <class Raw>
Raw load_struct(std::span<const std::byte> bytes) {
  static_assert(std::is_trivially_copyable_v<Raw> && alignof(Raw) == 1);
  std::array<std::byte, sizeof(Raw)> image{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), image.size()), image.begin());
  Raw raw;
  std::memcpy(static_cast<void*>(&raw), image.data(), sizeof(Raw));
  return raw;
}
/// Requires: to.size() >= sizeof(Raw).
template <class Raw>
void store_struct(std::span<std::byte> to, const Raw& raw) {
  static_assert(std::is_trivially_copyable_v<Raw> && alignof(Raw) == 1);
  std::memcpy(to.data(), &raw, sizeof(Raw));
}

}  // namespace imgconv
