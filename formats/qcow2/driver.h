// The qcow2 format as a BlockDriver: what the registry lists. It delegates to create.h, measure.h
// and image.h. Loop thread only.
#pragma once

#include "formats/driver.h"

namespace imgconv {

const BlockDriver& qcow2_driver();

}  // namespace imgconv
