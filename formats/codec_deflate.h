// Raw deflate, as qcow2's compression type 0 ("zlib") stores it (QCOW2.md 4.2). Reached through
// formats/codec.h; nobody else includes this. One object per thread.
#pragma once

#include <memory>

#include "formats/codec.h"

namespace imgconv {

std::unique_ptr<Decompressor> make_deflate_decompressor();
std::unique_ptr<Compressor> make_deflate_compressor();

}  // namespace imgconv
