// imgconv explain: options, the programs to explore, and the call of what prints.
#pragma once

#include "cmd/command.h"

namespace imgconv {

extern const Command kExplainCommand;

}  // namespace imgconv
