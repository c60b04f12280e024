// imgconv bitmap: options, and the call of what does the work.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kBitmapCommand;

}  // namespace imgconv
