// --object: secrets, in both the forms of qemu-img. They are looked at as there, and only their
// names and lengths are kept, since encrypted images cannot be opened; another type of object is
// refused. Reads the file that holds a secret, if one is named. A value; any thread.
#pragma once

#include <cstddef>
#include <map>
#include <string>

#include "loop/result.h"

namespace imgconv {

/// The objects of one command line.
class SecretObjects {
 public:
  /// The argument: "secret,id=ID,data=TEXT" or {"qom-type": "secret", ...}.
  Result<void> add(const std::string& text);

 private:
  /// Bytes of each secret, by its id.
  std::map<std::string, size_t, std::less<>> lengths_;
};

}  // namespace imgconv
