// The error of an image whose metadata contradicts itself. QEMU reports such damage on a line of
// its own and fails the request with EIO; the line travels as the hint of the error.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>

#include "loop/error.h"

namespace imgconv::qcow2 {

inline Error corruption(std::string_view what) {
  return Error::from_errno(EIO).with_hint(
      std::string("qcow2: Image is corrupt: ")
          .append(what)
          .append("; further corruption events will be suppressed"));
}

}  // namespace imgconv::qcow2
