// The error of an image whose metadata contradicts itself. QEMU reports such damage on a line of
// its own and fails the request with EIO; the line travels as the hint of the error until
// Qcow2Image says it. Damage found while the image may be written to is worse: it is marked corrupt
// and not touched any more, and the line says so.
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
inline constexpr std::string_view kCorruptSuffix =
    "; further non-fatal corruption events will be suppressed";

inline std::string corruption_line(std::string_view what) {
  return std::string(kCorruptPrefix).append(what).append(kCorruptSuffix);
}

inline Error corruption(std::string_view what) {
  return Error::from_errno(EIO).with_hint(corruption_line(what));
}

inline bool is_corruption(const Error& error) {
  return error.code() == EIO && error.hint().starts_with(kCorruptPrefix);
}

/// The line for an image that is marked corrupt. Requires: is_corruption(error).
inline std::string marking_line(const Error& error) {
  std::string_view what = error.hint();
  what.remove_prefix(kCorruptPrefix.size());
  what.remove_suffix(kCorruptSuffix.size());
  return fmt::format(
      "qcow2: Marking image as corrupt: {}; further corruption events will be suppressed", what);
}

}  // namespace imgconv::qcow2
