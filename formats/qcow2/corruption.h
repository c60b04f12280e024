// The error of an image whose metadata contradicts itself. QEMU reports such damage on a line of
// its own and fails the request with EIO; the line travels as the hint of the error until
// Qcow2Image says it.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "loop/error.h"

namespace imgconv::qcow2 {

/// As printf("%#x") writes it: zero without a prefix.
inline std::string hex(uint64_t value) { return value == 0 ? "0" : fmt::format("{:#x}", value); }

inline constexpr std::string_view kCorruptPrefix = "qcow2: Image is corrupt: ";

inline Error corruption(std::string_view what) {
  return Error::from_errno(EIO).with_hint(
      std::string(kCorruptPrefix)
          .append(what)
          .append("; further non-fatal corruption events will be suppressed"));
}

inline bool is_corruption(const Error& error) {
  return error.code() == EIO && error.hint().starts_with(kCorruptPrefix);
}

}  // namespace imgconv::qcow2
