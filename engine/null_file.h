// NullFile: nothing, of a given size: reads as zeros, swallows writes. The node `null-co` of a
// name, with which benchmarks and tests leave out the disk.
//
// Nothing waits for anything here, so every call is done when it returns. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "loop/file.h"

namespace imgconv {

std::unique_ptr<File> make_null_file(std::string name, uint64_t length);

}  // namespace imgconv
