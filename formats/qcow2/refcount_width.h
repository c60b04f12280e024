// Entries of a refcount block of every width, 1 to 64 bits (QCOW2.md 2): entries narrower than a
// byte are packed from its least significant bit, wider ones are big-endian words. Pure, any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/byteorder.h"

namespace imgconv::qcow2 {

/// Requires: order <= 6; `block` holds more than `index` entries.
inline uint64_t load_refcount(const std::byte* block, uint64_t index, unsigned order) {
  switch (order) {
    case 3:
      return static_cast<uint64_t>(block[index]);
    case 4:
      return load_be<uint16_t>(block + index * 2);
    case 5:
      return load_be<uint32_t>(block + index * 4);
    case 6:
      return load_be<uint64_t>(block + index * 8);
    default: {
      const uint64_t bit = index << order;
      const unsigned mask = (1U << (1U << order)) - 1;
      return (static_cast<unsigned>(block[bit / 8]) >> (bit % 8)) & mask;
    }
  }
}

/// Requires: as above, and `count` fits the width.
inline void store_refcount(std::byte* block, uint64_t index, unsigned order, uint64_t count) {
  switch (order) {
    case 3:
      block[index] = static_cast<std::byte>(count);
      return;
    case 4:
      return store_be(block + index * 2, static_cast<uint16_t>(count));
    case 5:
      return store_be(block + index * 4, static_cast<uint32_t>(count));
    case 6:
      return store_be(block + index * 8, count);
    default: {
      const uint64_t bit = index << order;
      const unsigned mask = ((1U << (1U << order)) - 1) << (bit % 8);
      const auto old = static_cast<unsigned>(block[bit / 8]);
      const auto bits = static_cast<unsigned>(count) << (bit % 8);
      block[bit / 8] = static_cast<std::byte>((old & ~mask) | (bits & mask));
    }
  }
}

}  // namespace imgconv::qcow2
