// --object: secrets, in both the forms of qemu-img. They are looked at as there and not kept, since
// encrypted images cannot be opened; another type of object is refused. Reads the file that holds
// the secret, if one is named. Any thread.
#pragma once

#include <string>

#include "loop/result.h"

namespace imgconv {

/// The argument: "secret,id=ID,data=TEXT" or {"qom-type": "secret", ...}.
Result<void> check_object(const std::string& text);

}  // namespace imgconv
