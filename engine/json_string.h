// json_string: a string as QEMU writes it in JSON: ASCII only, other characters as \uXXXX.
// Pure, any thread.
#pragma once

#include <string>
#include <string_view>

namespace imgconv {

/// `string` with quotes around it. Bytes that are no UTF-8 become U+FFFD.
std::string json_string(std::string_view string);

}  // namespace imgconv
