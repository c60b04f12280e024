// imgconv dd: options and operands, and the call of what does the work.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kDdCommand;

}  // namespace imgconv
