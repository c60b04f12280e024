// The raw format: guest offset = host offset, plus a fixed distance when the image is a window of
// its file. Where the file has holes the image has zeros. No metadata, so nothing to link, check or
// compress. Loop thread only; an image owns its file.
#pragma once

#include "formats/driver.h"

namespace imgconv {

const BlockDriver& raw_driver();

}  // namespace imgconv
